package kit_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
)

type settings struct {
	Text, Choice, URL string
	Secret            faas.Secret
	Flag              bool
	Number            uint32
	Wait              time.Duration
	List, Lines       []string
	Pairs             map[string]string
}

func declare(s *settings) kit.Options {
	return kit.Options{
		kit.Into(&s.Text, faas.Option{Name: "text"}),
		kit.Into(&s.Choice, faas.Option{Name: "choice", Choices: []string{"a", "b"}, Default: "b"}),
		kit.Into(&s.URL, faas.Option{Name: "url", Type: faas.OptionURL}),
		kit.Into(&s.Secret, faas.Option{Name: "secret"}),
		kit.Into(&s.Flag, faas.Option{Name: "flag", Default: "true"}),
		kit.Into(&s.Number, faas.Option{Name: "number", Default: "7"}),
		kit.Into(&s.Wait, faas.Option{Name: "wait_secs", Default: "60"}),
		kit.Into(&s.List, faas.Option{Name: "list"}),
		kit.Into(&s.Lines, faas.Option{Name: "lines", Type: faas.OptionLines}),
		kit.Into(&s.Pairs, faas.Option{Name: "pairs"}),
	}
}

func TestOptionsFillTheirStruct(t *testing.T) {
	var got settings
	if err := declare(&got).Fill("p", faas.Config{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(settings{Choice: "b", Flag: true, Number: 7, Wait: time.Minute}, got,
		cmp.Comparer(sameSecret)); diff != "" {
		t.Errorf("by default (-want +got):\n%s", diff)
	}
	options := map[string]string{
		"text": "t", "choice": "A", "url": "https://a.example", "secret": "s", "flag": "false", "number": "8",
		"wait_secs": "5",
		"list":      `["a,b","c"]`, "lines": "a,b\nc", "pairs": `{"a":"b"}`,
	}
	if err := declare(&got).Fill("p", faas.Config{Options: options}); err != nil {
		t.Fatal(err)
	}
	want := settings{
		Text: "t", Choice: "a", URL: "https://a.example", Secret: faas.NewSecret("s"), Number: 8, Wait: 5 * time.Second,
		List: []string{"a,b", "c"}, Lines: []string{"a,b", "c"}, Pairs: map[string]string{"a": "b"},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(sameSecret)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	err := declare(&got).Fill("p", faas.Config{Options: map[string]string{"text": "other", "number": "x"}})
	if want := `faas: open: p: option "number" is "x"; it must be a whole number from 0 to 4294967295`; err == nil ||
		err.Error() != want || got.Text != "t" {
		t.Errorf("%v with text %s, want %s", err, got.Text, want)
	}
}

func sameSecret(a, b faas.Secret) bool { return a.Reveal() == b.Reveal() }

func TestTheTypeOfAnOptionIsThatOfItsDestination(t *testing.T) {
	want := []faas.OptionType{
		faas.OptionText, faas.OptionChoice, faas.OptionURL, faas.OptionText, faas.OptionFlag, faas.OptionNumber,
		faas.OptionSeconds,
		faas.OptionList, faas.OptionLines, faas.OptionPairs,
	}
	for i, o := range declare(new(settings)).Table() {
		if o.Type != want[i] || o.Sensitive != (o.Name == "secret") {
			t.Errorf("%s: type %s, sensitive %v", o.Name, o.Type, o.Sensitive)
		}
	}
}
