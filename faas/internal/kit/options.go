package kit

import (
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Options declare what a provider can be told in faas.Config.Options, and where each value goes: name,
// type, default and destination stand in one place. A provider writes one function of its settings
// that returns its Options, registers the Table of an empty struct's, and fills its own by Fill.
type Options []Declared

// Declared is one option and its destination. [Into] makes it.
type Declared struct {
	option faas.Option
	set    func(value any)
}

// Value is what an option can be stored in. See [Into].
type Value interface {
	string | faas.Secret | bool | uint32 | time.Duration | []string | map[string]string
}

// Into declares an option that is stored in *to, whose type says that of the option unless o does: a
// bool is a flag, a time.Duration seconds, and a faas.Secret makes the option sensitive.
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

// Fill stores every option of cfg where it is declared to go. What is not set is as the environment
// or the default says, or else the zero value. The error is that of [faas.ParseOptions] on behalf of
// the provider; then nothing is stored.
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
