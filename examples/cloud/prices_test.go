package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
)

// azureLists answers as the Azure Retail Prices API, and for nobody else.
type azureLists struct{ t *testing.T }

func (l azureLists) RoundTrip(req *http.Request) (*http.Response, error) {
	resp := &http.Response{StatusCode: http.StatusServiceUnavailable, Status: "503 Service Unavailable", Header: http.Header{}, Body: http.NoBody, Request: req}
	if req.URL.Hostname() != "prices.azure.com" {
		return resp, nil
	}
	page := 1
	if req.URL.Query().Has("$skip") {
		page = 2
	}
	text, err := os.ReadFile(fmt.Sprintf("../../testdata/prices/azure-%d.json", page))
	if err != nil {
		l.t.Error(err)
	}
	cheaper := strings.ReplaceAll(string(text), "2.6e-05", "2.5e-05")
	resp.StatusCode, resp.Status, resp.Body = http.StatusOK, "200 OK", io.NopCloser(strings.NewReader(cheaper))
	return resp, nil
}

func TestPricesAreRefreshedAndSavedForTheEstimates(t *testing.T) {
	t.Setenv("GOOGLE_API_KEY", "")
	d := ready(t)
	saved := filepath.Join(d.dir, "prices.json")
	var out lockedBuffer
	code := run(t.Context(), d.args([]string{"prices", "--refresh", "--save", saved}), streams{in: strings.NewReader(""), out: &out, err: &out, transport: azureLists{t}})
	for _, says := range []string{
		"changed: providers.azure-functions.gb_second[0].price: 0.000026 -> 0.000025", "kept: providers.aws-lambda: pricing.us-east-1.amazonaws.com answers 503",
		"kept: providers.gcp-functions: Google's catalog needs an API key", "saved in " + saved,
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
	var report struct{ Costs []*serverless.CostEstimate }
	d.json(&report, "analyze", d.binary, "--calls-per-month", "1000", "--prices", saved)
	for _, cost := range report.Costs {
		if from := strings.HasPrefix(cost.Source, "https://prices.azure.com/"); from != (cost.Provider == faas.AzureFunctions) {
			t.Errorf("%s is estimated with prices of %s", cost.Provider, cost.Source)
		}
	}
}

func TestARefreshThatReadsNothingFails(t *testing.T) {
	d := newDesk(t)
	var out lockedBuffer
	args := d.args([]string{"prices", "--refresh", "--of", faas.AWSLambda, "--save", filepath.Join(d.dir, "prices.json")})
	if code := run(t.Context(), args, streams{in: strings.NewReader(""), out: &out, err: &out, transport: azureLists{t}}); code != exitCodes[faas.ErrUnavailable] || !strings.Contains(out.String(), "503") {
		t.Errorf("exit code %d:\n%s", code, out.String())
	}
	if _, err := os.Stat(filepath.Join(d.dir, "prices.json")); !os.IsNotExist(err) {
		t.Errorf("prices were saved: %v", err)
	}
}
