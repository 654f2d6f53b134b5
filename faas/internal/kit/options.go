package kit

import (
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Options declares what a provider reads from faas.Config.Options and where each value goes, so
// that name, type, default and destination are in one place. A provider writes one function that
// returns the Options of its settings. It registers the Table of an empty struct and fills its own
// with Fill.
type Options []Declared

// Declared is one option and its destination. [Into] makes it.
type Declared struct {
	option faas.Option
	set    func(value any)
}

// Value is the type of an option's destination. See [Into].
type Value interface {
	string | faas.Secret | bool | uint32 | time.Duration | []string | map[string]string
}

// Into declares an option that is stored in *to. Unless o sets a type, the type of *to does: a bool
// makes a flag, a time.Duration is in seconds, and a faas.Secret makes the option sensitive.
func Into[T Value](to *T, o faas.Option) Declared {
	set := func(value any) { *to = value.(T) }
	kind := faas.OptionText
	switch to := any(to).(type) {
	case *string:
		if len(o.Choices) > 0 {
			kind = faas.OptionChoice
		}
	case *faas.Secret:
		o.Sensitive = true
		set = func(value any) { *to = faas.NewSecret(value.(string)) }
	case *bool:
		kind = faas.OptionFlag
	case *uint32:
		kind = faas.OptionNumber
	case *time.Duration:
		kind = faas.OptionSeconds
	case *[]string:
		kind = faas.OptionList
	case *map[string]string:
		kind = faas.OptionPairs
	}
	if o.Type == "" {
		o.Type = kind
	}
	return Declared{o, set}
}

// Table returns the declarations, for faas.ProviderInfo.
func (o Options) Table() []faas.Option {
	table := make([]faas.Option, len(o))
	for i, d := range o {
		table[i] = d.option
	}
	return table
}

// Fill stores every option of cfg in its destination. An option that is not set takes its value
// from the environment, then its default, and is otherwise the zero value. The error is that of
// [faas.ParseOptions] for the provider; in that case nothing is stored.
func (o Options) Fill(provider string, cfg faas.Config) error {
	cfg.Provider = provider
	values, err := faas.ParseOptions(cfg, o.Table())
	if err != nil {
		return err
	}
	for _, d := range o {
		d.set(values[d.option.Name])
	}
	return nil
}
