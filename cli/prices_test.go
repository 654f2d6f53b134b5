package cli

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tangle-network/blueprint-serverless/cost"
	"github.com/tangle-network/blueprint-serverless/faas"
)

// priceLists answers as AWS and Azure publish their prices, from files.
type priceLists struct {
	down string // is no host any more
	edit *strings.Replacer
}

func (l priceLists) RoundTrip(req *http.Request) (*http.Response, error) {
	file := ""
	switch host := req.URL.Hostname(); {
	case host == l.down:
	case host == "prices.azure.com" && req.URL.Query().Has("$skip"):
		file = "azure-2"
	case host == "prices.azure.com":
		file = "azure-1"
	case host == "pricing.us-east-1.amazonaws.com":
		file = strings.Split(req.URL.Path, "/")[4] // /offers/v1.0/aws/SERVICE/current/REGION/index.json
	}
	text, err := os.ReadFile("../cost/refresh/testdata/" + file + ".json")
	if err != nil {
		return &http.Response{StatusCode: http.StatusServiceUnavailable, Status: "503 Service Unavailable",
			Body: http.NoBody, Request: req}, nil
	}
	list := string(text)
	if l.edit != nil {
		list = l.edit.Replace(list)
	}
	return &http.Response{StatusCode: http.StatusOK, Status: "200 OK", Body: io.NopCloser(strings.NewReader(list)),
		Request: req}, nil
}

const awsLists = "pricing.us-east-1.amazonaws.com"

func TestPricesAreRefreshedAndSavedForTheEstimates(t *testing.T) {
	t.Setenv("GOOGLE_API_KEY", "")
	d := ready(t)
	saved := filepath.Join(d.dir, "prices.json")
	var out lockedBuffer
	code := run(t.Context(), d.args([]string{"prices", "--refresh", "--save", saved}),
		streams{in: strings.NewReader(""), out: &out, err: &out,
			transport: priceLists{down: awsLists, edit: strings.NewReplacer("2.6e-05", "2.5e-05")}})
	for _, says := range []string{
		"changed: providers.azure-functions.gb_second[0].price: 0.000026 -> 0.000025",
		"kept: providers.aws-lambda: pricing.us-east-1.amazonaws.com answers 503",
		"kept: providers.gcp-functions: the catalog of Google needs an API key", "saved in " + saved,
	} {
		if !strings.Contains(out.String(), says) {
			t.Errorf("nothing says %q", says)
		}
	}
	if code != exitOK || t.Failed() {
		t.Fatalf("exit code %d:\n%s", code, out.String())
	}
	if shown := d.ok("prices", "--prices", saved); !strings.Contains(shown, "0.000025") {
		t.Errorf("the saved prices are not those refreshed:\n%s", shown)
	}
	var report struct{ Costs []*cost.Estimate }
	d.json(&report, "analyze", d.binary, "--calls-per-month", "1000", "--prices", saved)
	for _, cost := range report.Costs {
		fetched := strings.HasPrefix(cost.Source, "https://prices.azure.com/")
		if fetched != (cost.Provider == faas.AzureFunctions) {
			t.Errorf("%s is estimated with prices of %s", cost.Provider, cost.Source)
		}
	}
}

func TestARefreshThatReadsNothingFails(t *testing.T) {
	d := newDesk(t)
	var out lockedBuffer
	args := d.args([]string{"prices", "--refresh", "--of", faas.AWSLambda, "--save", filepath.Join(d.dir, "prices.json")})
	if code := run(t.Context(), args, streams{in: strings.NewReader(""), out: &out, err: &out,
		transport: priceLists{down: awsLists}}); code != exitCodes[faas.ErrUnavailable] ||
		!strings.Contains(out.String(), "503") {
		t.Errorf("exit code %d:\n%s", code, out.String())
	}
	if _, err := os.Stat(filepath.Join(d.dir, "prices.json")); !os.IsNotExist(err) {
		t.Errorf("prices were saved: %v", err)
	}
}
