package serverless_test

import (
	"flag"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
)

func applyFlags(p *serverless.Policy, args ...string) error {
	fs := flag.NewFlagSet("policy", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	flags := serverless.BindPolicyFlags(fs)
	if err := fs.Parse(args); err != nil {
		return err
	}
	return flags.Apply(p)
}

func TestPolicyFlagsChangeWhatWasGiven(t *testing.T) {
	custom := serverless.DefaultPolicy().Serverless
	custom.Provider = serverless.ProviderSettings{Type: faas.Custom, Endpoint: "http://h"}
	custom.ProviderConfig = map[string]string{"k": "v"}
	warm := custom
	warm.KeepWarm, warm.MaxConcurrency = 3, 3
	tests := []struct {
		name   string
		from   serverless.ServerlessSettings
		args   string
		change func(*serverless.ServerlessSettings)
	}{
		{"nothing", custom, "", func(*serverless.ServerlessSettings) {}},
		{"all of AWS", custom, "--serverless true --faas-provider aws-lambda --faas-aws-region eu-west-1 --faas-memory " +
			"1024 --faas-timeout 600", func(s *serverless.ServerlessSettings) {
			*s = serverless.ServerlessSettings{Enable: true,
				Provider:        serverless.ProviderSettings{Type: faas.AWSLambda, Region: "eu-west-1"},
				DefaultMemoryMB: 1024, DefaultTimeoutSecs: 600, FallbackToVM: true}
		}},
		{"the default region", custom, "-faas-provider=aws-lambda", func(s *serverless.ServerlessSettings) {
			s.Provider, s.ProviderConfig = serverless.ProviderSettings{Type: faas.AWSLambda, Region: "us-east-1"}, nil
		}},
		{"Google", custom, "--faas-provider gcp-functions --faas-gcp-project p --faas-gcp-region europe-west4",
			func(s *serverless.ServerlessSettings) {
				s.Provider, s.ProviderConfig = serverless.ProviderSettings{
					Type: faas.GCPFunctions, ProjectID: "p", Region: "europe-west4"}, nil
			}},
		{"Azure", custom, "--faas-provider azure-functions --faas-azure-subscription s --faas-azure-region westeurope",
			func(s *serverless.ServerlessSettings) {
				s.Provider, s.ProviderConfig = serverless.ProviderSettings{
					Type: faas.AzureFunctions, SubscriptionID: "s", Region: "westeurope"}, nil
			}},
		{"the same provider keeps its options", custom,
			"--faas-provider custom --faas-custom-endpoint https://my-faas.example", func(s *serverless.ServerlessSettings) {
				s.Provider.Endpoint = "https://my-faas.example"
			}},
		{"instances", custom, "--faas-keep-warm 2 --faas-max-concurrency 10",
			func(s *serverless.ServerlessSettings) { s.KeepWarm, s.MaxConcurrency = 2, 10 }},
		{"no instances", warm, "--faas-keep-warm 0 --faas-max-concurrency 0",
			func(s *serverless.ServerlessSettings) { s.KeepWarm, s.MaxConcurrency = 0, 0 }},
		{"fallback", custom, "--serverless-fallback false",
			func(s *serverless.ServerlessSettings) { s.FallbackToVM = false }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := &serverless.Policy{Serverless: test.from}
			want := test.from
			test.change(&want)
			if err := applyFlags(p, strings.Fields(test.args)...); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, p.Serverless); diff != "" {
				t.Errorf("settings differ (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPolicyFlagsRefuseWhatMakesNoSense(t *testing.T) {
	const applying = "faas: apply flags: "
	for _, test := range []struct{ args, want string }{
		{"--serverless maybe", `invalid value "maybe" for flag -serverless: must be true or false`},
		{"--faas-keep-warm -1", `invalid value "-1" for flag -faas-keep-warm: must be a whole number, at least 0`},
		{"--faas-keep-warm 3 --faas-max-concurrency 2",
			applying + `--faas-keep-warm: 3 instances are kept ready, but max_concurrency allows only 2 to work`},
		{"--faas-max-concurrency 1",
			applying + `serverless.jobs.4.keep_warm: 2 instances are kept ready, but max_concurrency allows only 1 to work`},
		{"--faas-memory -1", `invalid value "-1" for flag -faas-memory: must be a whole number, at least 1`},
		{"--faas-memory 0", applying + `--faas-memory: must be at least 1 MB, not 0`},
		{"--faas-timeout 901", applying + `--faas-timeout: 901 s is above the limit of aws-lambda, 900 s`},
		{"--faas-provider lambda",
			applying + `--faas-provider: unknown provider "lambda" (known: aws-lambda, azure-functions, custom, gcp-functions)`},
		{"--faas-provider custom", applying + `--faas-custom-endpoint: is missing: custom needs it`},
		{"--faas-provider gcp-functions", applying + `--faas-gcp-project: is missing: gcp-functions needs it`},
		{"--faas-provider azure-functions",
			applying + `--faas-azure-subscription: is missing: azure-functions needs it`},
		{"--faas-custom-endpoint http://h",
			applying + `--faas-custom-endpoint is for custom, and the provider is aws-lambda: drop it, or add ` +
				`--faas-provider custom`},
		{"--faas-provider custom --faas-custom-endpoint http://h --faas-aws-region x",
			applying + `--faas-aws-region is for aws-lambda, and the provider is custom: drop it, or add --faas-provider ` +
				`aws-lambda`},
		{"--faas-provider custom --faas-custom-endpoint user:secret@h",
			applying + `--faas-custom-endpoint: is not an http or https URL: it must look like https://faas.example`},
		{"--faas-azure-region x",
			applying + `--faas-azure-region is for azure-functions, and the provider is aws-lambda: drop it, or add ` +
				`--faas-provider azure-functions`},
		{"--faas-provider gcp-functions --faas-gcp-project p --faas-gcp-region a/b",
			applying + `--faas-gcp-region: "a/b" contains characters that are not allowed in such a name`},
		{"--faas-aws-region=", applying + `--faas-aws-region is empty`},
		{"--faas-provider custom --faas-custom-endpoint http://h --faas-memory 512",
			applying + `serverless.default_timeout_secs: 600 s is above the limit of custom, 300 s: set it with --faas-timeout`},
	} {
		p := serverless.DefaultPolicy()
		p.Serverless.DefaultTimeoutSecs = 600
		p.Serverless.Jobs = map[uint32]serverless.JobSettings{4: {KeepWarm: new(uint32(2))}}
		before := *p
		err := applyFlags(p, strings.Fields(test.args)...)
		if err == nil || err.Error() != test.want {
			t.Errorf("%s:\n got %v\nwant %s", test.args, err, test.want)
		}
		if !p.Equal(before) {
			t.Errorf("%s: the policy has changed in spite of the error", test.args)
		}
	}
}
