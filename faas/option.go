package faas

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/suggest"
)

// OptionType says how the value of an option is written, and which Go type [ParseOptions] returns
// for it.
type OptionType string

// The types of options. Spaces around a value are ignored, and an empty value counts as not set.
const (
	OptionText    OptionType = "text"    // a string
	OptionChoice  OptionType = "choice"  // one of Option.Choices, in any case: a string, as Choices spell it
	OptionURL     OptionType = "url"     // an absolute http(s) URL without user name and fragment: a string
	OptionNumber  OptionType = "number"  // a whole number from Option.Min to Option.Max: a uint32
	OptionSeconds OptionType = "seconds" // a number of seconds, within the same bounds: a time.Duration
	OptionFlag    OptionType = "flag"    // true, yes, on or 1, or false, no, off or 0: a bool

	// OptionList is a JSON array of strings if it begins with a bracket, else items separated by
	// commas: a []string.
	OptionList OptionType = "list"
	// OptionLines is an OptionList whose items may hold commas: line breaks separate them.
	OptionLines OptionType = "lines"
	// OptionPairs is a JSON object of strings if it begins with a brace, else a list of KEY=VALUE: a
	// map[string]string. No key may be empty or duplicate.
	OptionPairs OptionType = "pairs"
)

// Option declares one option of a provider: a member of Config.Options, and of "provider_config" in
// the policy file. Flags, documentation, checks and redaction all come from it.
type Option struct {
	Name    string
	Type    OptionType // if empty, OptionChoice for an option with Choices, else OptionText
	Help    string     // a phrase, for flags, documentation and errors
	Default string     // the value that counts if none is given
	// Env is an environment variable that takes precedence over Default. [Resolve] reads those of
	// options with Place, [ParseOptions] the others.
	Env       string
	Required  bool
	Sensitive bool // its value never appears in an error, a log, an event or a ledger
	// Place says that the option is part of a service's place, such as an account: with another
	// value, the same name is another service.
	Place bool

	Choices []string
	// Min and Max bound a number. Max also bounds the length of a list or of pairs. A Max of 0 means
	// no bound.
	Min, Max uint32
	// Valid, if set, checks a value beyond its type: each item of a list, and each pair as
	// KEY=VALUE. Shape says what it accepts, as in "it must be SHAPE".
	Valid func(text string) bool
	Shape string
	// Former are names that the option had in earlier versions. They are refused with the current
	// name, and understood in records of those versions.
	Former []string
}

func (o Option) typed() OptionType {
	switch {
	case o.Type != "":
		return o.Type
	case len(o.Choices) > 0:
		return OptionChoice
	}
	return OptionText
}

// members are the fields of a Config that people may look for among the options.
var members = map[string]string{
	"region": "region", "location": "region", "project": "project_id", "project_id": "project_id",
	"subscription": "subscription_id", "subscription_id": "subscription_id", "endpoint": "endpoint",
}

// ParseOptions reads the options of cfg as they are declared. An option that is not set takes its
// value from its environment variable, or else its default. The result holds every declared
// option by its name, with the Go type that its OptionType says, or the zero value if nothing
// sets it.
//
// The error is ErrInvalidArgument for an option that is not declared, a required one that is
// missing, or a malformed value. It names the option and the shape. It never shows a sensitive
// value; it shows only the keys of pairs, and no part of a URL that may be a password.
func ParseOptions(cfg Config, options []Option) (map[string]any, error) {
	for _, name := range slices.Sorted(maps.Keys(cfg.Options)) {
		if err := checkName(name, options); err != nil {
			return nil, Errorf(ErrInvalidArgument, "open", cfg.Provider, "%w", err)
		}
	}
	values := make(map[string]any, len(options))
	for _, o := range options {
		text, from := strings.TrimSpace(cfg.Options[o.Name]), ""
		if text == "" && o.Env != "" {
			text, from = strings.TrimSpace(os.Getenv(o.Env)), ", from $"+o.Env+","
		}
		if text == "" {
			text, from = o.Default, ""
		}
		if text == "" && o.Required {
			return nil, Errorf(ErrInvalidArgument, "open", cfg.Provider, "option %q is missing: %s", o.Name, o.Help)
		}
		value, err := o.parse(text)
		if err != nil {
			return nil, Errorf(ErrInvalidArgument, "open", cfg.Provider, "option %q%s %w", o.Name, from, err)
		}
		values[o.Name] = value
	}
	return values, nil
}

// checkName explains a name that no option has.
func checkName(name string, options []Option) error {
	names := make([]string, len(options))
	for i, o := range options {
		if o.Name == name {
			return nil
		}
		if slices.Contains(o.Former, name) {
			return fmt.Errorf("option %q is called %q now", name, o.Name)
		}
		names[i] = o.Name
	}
	if member, ok := members[name]; ok {
		return fmt.Errorf("unknown option %q: %s is a setting of its own, beside the provider's type", name, member)
	}
	if near, ok := suggest.Name(name, names); ok {
		return fmt.Errorf("unknown option %q: did you mean %q?", name, near)
	}
	if len(names) == 0 {
		return fmt.Errorf("unknown option %q (it has none)", name)
	}
	return fmt.Errorf("unknown option %q (it has: %s)", name, strings.Join(names, ", "))
}

// CurrentOptions returns recorded options under the names that the provider, if it is linked, has
// for them now (see Option.Former). Only records are translated. A former name in a configuration
// is refused.
func CurrentOptions(provider string, recorded map[string]string) map[string]string {
	p, _ := lookup(provider)
	current := maps.Clone(recorded)
	for _, o := range p.Options {
		for _, former := range o.Former {
			if value, ok := current[former]; ok {
				delete(current, former)
				current[o.Name] = value
			}
		}
	}
	return current
}

// parse reads a value. Its error continues a sentence after the option's name: "is VALUE; it must
// be SHAPE".
func (o Option) parse(text string) (any, error) {
	switch o.typed() {
	case OptionNumber, OptionSeconds:
		most, unit := o.Max, ""
		if most == 0 {
			most = math.MaxUint32
		}
		if o.typed() == OptionSeconds {
			unit = "of seconds "
		}
		n, err := strconv.ParseUint(text, 10, 32)
		if text != "" && (err != nil || n < uint64(o.Min) || n > uint64(most) || !o.valid(text)) {
			return nil, o.wrong(text, fmt.Sprintf("a whole number %sfrom %d to %d", unit, o.Min, most))
		}
		if o.typed() == OptionSeconds {
			return time.Duration(n) * time.Second, nil
		}
		return uint32(n), nil
	case OptionFlag:
		switch strings.ToLower(text) {
		case "true", "yes", "on", "1":
			return true, nil
		case "", "false", "no", "off", "0":
			return false, nil
		}
		return nil, o.wrong(text, "true or false")
	case OptionList, OptionLines:
		separator := map[OptionType]string{OptionList: ",", OptionLines: "\n"}[o.typed()]
		return o.parseList(text, separator)
	case OptionPairs:
		return o.parsePairs(text)
	case OptionChoice:
		for _, choice := range o.Choices {
			if strings.EqualFold(choice, text) {
				return choice, nil
			}
		}
		if last := len(o.Choices) - 1; text != "" {
			shape := strings.Join(o.Choices[:last], ", ") + " or " + o.Choices[last]
			return nil, o.wrong(text, strings.TrimPrefix(shape, " or "))
		}
	case OptionURL:
		if text != "" && (!isURL(text) || !o.valid(text)) {
			return nil, o.wrong(text, "an http or https URL without a user name")
		}
	default:
		if text != "" && !o.valid(text) {
			return nil, o.wrong(text, "")
		}
	}
	return text, nil
}

func (o Option) valid(text string) bool { return o.Valid == nil || o.Valid(text) }

// wrong says what a value is, if that may be shown, and what it must be.
func (o Option) wrong(text, shape string) error {
	if o.Shape != "" {
		shape = o.Shape
	}
	switch {
	case o.Sensitive:
		return fmt.Errorf("must be %s", shape)
	case o.typed() == OptionURL:
		return fmt.Errorf("is %s; it must be %s", RedactURL(text), shape)
	case len(text) > 64:
		text = strings.ToValidUTF8(text[:64], "") + "..."
	}
	return fmt.Errorf("is %q; it must be %s", text, shape)
}

func isURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" &&
		u.Opaque == "" && u.User == nil && u.Fragment == ""
}

func (o Option) parseList(text, separator string) ([]string, error) {
	items, err := splitItems(text, separator)
	if err != nil {
		return nil, fmt.Errorf("begins like a JSON array: %w", err)
	}
	if o.Max > 0 && len(items) > int(o.Max) {
		return nil, fmt.Errorf("has %d items; it must have at most %d", len(items), o.Max)
	}
	for i, item := range items {
		if !o.valid(item) {
			return nil, fmt.Errorf("has a wrong item: item %d %w", i+1, o.wrong(item, ""))
		}
	}
	return items, nil
}

func (o Option) parsePairs(text string) (map[string]string, error) {
	var pairs [][2]string
	if strings.HasPrefix(text, "{") {
		flat, err := jsonItems(text)
		if err != nil {
			return nil, fmt.Errorf("begins like a JSON object: %w", err)
		}
		for pair := range slices.Chunk(flat, 2) {
			pairs = append(pairs, [2]string(pair))
		}
	} else {
		items, err := splitItems(text, ",")
		if err != nil {
			return nil, fmt.Errorf("begins like a JSON array: %w", err)
		}
		for i, item := range items {
			key, value, found := strings.Cut(item, "=")
			if !found {
				return nil, fmt.Errorf("has no = in item %d; it must be %s", i+1, cmp.Or(o.Shape, "KEY=VALUE"))
			}
			pairs = append(pairs, [2]string{strings.TrimSpace(key), strings.TrimSpace(value)})
		}
	}
	if o.Max > 0 && len(pairs) > int(o.Max) {
		return nil, fmt.Errorf("has %d pairs; it must have at most %d", len(pairs), o.Max)
	}
	var values map[string]string
	for i, pair := range pairs {
		key, what := pair[0], fmt.Sprintf("%q", pair[0])
		if o.Sensitive {
			what = fmt.Sprint("pair ", i+1)
		}
		_, twice := values[key]
		switch {
		case key == "":
			return nil, fmt.Errorf("has a pair without a key, pair %d", i+1)
		case twice:
			return nil, fmt.Errorf("has %s twice", what)
		case !o.valid(key + "=" + pair[1]):
			return nil, fmt.Errorf("has a wrong pair, %s: it must be %s", what, o.Shape)
		}
		if values == nil {
			values = map[string]string{}
		}
		values[key] = pair[1]
	}
	return values, nil
}

// splitItems reads a JSON array, or else the texts between separators that are not empty.
func splitItems(text, separator string) ([]string, error) {
	if strings.HasPrefix(text, "[") {
		return jsonItems(text)
	}
	var items []string
	for item := range strings.SplitSeq(text, separator) {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items, nil
}

// jsonItems returns the items of a JSON array, or the names and values of an object in turn. They
// must be strings, numbers or booleans. Its errors show none of them.
func jsonItems(text string) (items []string, err error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if _, err := d.Token(); err != nil { // the bracket or brace
		return nil, errNotJSON
	}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, errNotJSON
		}
		switch token.(type) {
		case string, json.Number, bool:
			items = append(items, fmt.Sprint(token))
		default:
			return nil, errNotJSON
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, errNotJSON
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errNotJSON
	}
	return items, nil
}

var errNotJSON = errors.New("it must be valid JSON, of strings alone")
