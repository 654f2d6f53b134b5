//go:build !faas_only

package all_test

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/tangle-network/blueprint-serverless/faas"
	_ "github.com/tangle-network/blueprint-serverless/faas/all"
)

var update = flag.Bool("update", false, "write docs/options.md anew")

const canary = "C4NARY-c4nary"

// wrong is a value that no option of its type accepts; options of type text and list refuse it
// only if they have Valid.
func wrong(o faas.Option) string {
	switch o.Type {
	case faas.OptionLines, faas.OptionText, faas.OptionList:
		if o.Valid == nil {
			return ""
		}
		return "\x01" + canary
	case faas.OptionPairs:
		return "\x01=" + canary
	}
	return canary
}

func config(provider string, options map[string]string) faas.Config {
	return faas.Config{
		Provider: provider, Service: "svc", ProjectID: "test-project", SubscriptionID: "00000000-0000-0000-0000-000000000000",
		Endpoint: "https://faas.example", Options: options, HTTPClient: &http.Client{Transport: offline{}},
	}
}

type offline struct{}

func (offline) RoundTrip(r *http.Request) (*http.Response, error) {
	panic("a configuration was sent to " + r.URL.Host + " before it was checked")
}

func TestEveryOptionIsDeclaredInFullAndHeldToIt(t *testing.T) {
	for _, provider := range faas.Names() {
		info, _ := faas.Provider(provider)
		seen := map[string]bool{}
		for _, o := range info.Options {
			t.Run(provider+" "+o.Name, func(t *testing.T) {
				if o.Help == "" || o.Type == "" || (o.Valid == nil) != (o.Shape == "") {
					t.Errorf("help %q, type %q, shape %q", o.Help, o.Type, o.Shape)
				}
				if o.Type == faas.OptionSeconds != strings.HasSuffix(o.Name, "_secs") || o.Type == faas.OptionFlag &&
					o.Default == "" {
					t.Errorf("type %s, default %q", o.Type, o.Default)
				}
				for _, name := range append(slices.Clone(o.Former), o.Name) {
					if seen[name] {
						t.Errorf("the name %s is there twice", name)
					}
					seen[name] = true
				}
				if _, err := faas.ParseOptions(faas.Config{Options: map[string]string{o.Name: o.Default}},
					info.Options); err != nil {
					t.Errorf("its default is refused: %v", err)
				}
				if text := wrong(o); text != "" {
					_, err := faas.Open(t.Context(), config(provider, map[string]string{o.Name: text}))
					refused(t, err, fmt.Sprintf("option %q", o.Name), o.Shape)
					if (o.Sensitive || o.Type == faas.OptionURL || o.Type == faas.OptionPairs) &&
						strings.Contains(fmt.Sprint(err), canary) {
						t.Errorf("the error shows the value: %v", err)
					}
				}
			})
		}
	}
}

func refused(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, want := range words {
		if !errors.Is(err, faas.ErrInvalidArgument) || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%v, want ErrInvalidArgument with %q", err, want)
		}
	}
}

func TestFormerNamesAreRefusedWithTheNewOnes(t *testing.T) {
	for _, renamed := range []struct{ provider, former, name string }{
		{faas.AWSLambda, "s3_bucket", "bucket"},
		{faas.AWSLambda, "delete_logs", "remove_logs"},
		{faas.GCPFunctions, "ingress", "visibility"},
		{faas.GCPFunctions, "docker_repository", "repository"},
		{faas.GCPFunctions, "deploy_timeout_secs", "ready_timeout_secs"},
	} {
		_, err := faas.Open(t.Context(), config(renamed.provider, map[string]string{renamed.former: canary}))
		refused(t, err, fmt.Sprintf("%q is called %q now", renamed.former, renamed.name))
		recorded := faas.CurrentOptions(renamed.provider, map[string]string{renamed.former: "v"})
		if len(recorded) != 1 || recorded[renamed.name] != "v" {
			t.Errorf("what was recorded as %s is read as %v", renamed.former, recorded)
		}
	}
	_, err := faas.Open(t.Context(), config(faas.AzureFunctions, map[string]string{"location": canary}))
	refused(t, err, "region is a setting of its own")
}

// An option means the same on every provider that has it.
func TestOptionsOfOneNameAreOfOneType(t *testing.T) {
	types := map[string]faas.OptionType{}
	for _, provider := range faas.Names() {
		info, _ := faas.Provider(provider)
		for _, o := range info.Options {
			if have, ok := types[o.Name]; ok && have != o.Type && o.Name != "mode" {
				t.Errorf("%s: option %s is %s, and %s elsewhere", provider, o.Name, o.Type, have)
			}
			types[o.Name] = o.Type
		}
	}
}

func TestTheManualHasEveryOption(t *testing.T) {
	const file, mark = "../../docs/options.md", "<!-- From here on: go test ./faas/all -update -->\n"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	intro, _, found := strings.Cut(string(text), mark)
	if !found {
		t.Fatalf("%s has no line %s", file, mark)
	}
	want := intro + mark + manual()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(text) != want {
		t.Errorf("%s is not what the providers declare: go test ./faas/all -update", file)
	}
}

func manual() string {
	var b strings.Builder
	for _, provider := range faas.Names() {
		fmt.Fprintf(&b, "\n## %s\n\n| option | type | default | what it is |\n|---|---|---|---|\n", provider)
		info, _ := faas.Provider(provider)
		for _, o := range info.Options {
			kind := string(o.Type)
			switch {
			case o.Max > 0 && (o.Type == faas.OptionNumber || o.Type == faas.OptionSeconds):
				kind += fmt.Sprintf(", %d to %d", o.Min, o.Max)
			case o.Max > 0:
				kind += fmt.Sprintf(", at most %d", o.Max)
			}
			for _, more := range []struct {
				is   bool
				word string
			}{{o.Required, "required"}, {o.Sensitive, "secret"}, {o.Place, "place"}} {
				if more.is {
					kind += ", " + more.word
				}
			}
			otherwise := o.Default
			if o.Env != "" {
				otherwise = strings.TrimSuffix("$"+o.Env+", else "+cmp.Or(o.Default, "none"), ", else none")
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", o.Name, kind, otherwise, o.Help)
		}
	}
	return b.String()
}
