//go:build !faas_only || faas_aws

package aws

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"go.uber.org/goleak"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/internal/lambdatest"
	"github.com/tangle-network/blueprint-serverless/internal/logs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fastPace is for tests: a fake changes its states within milliseconds.
var fastPace = pace{
	first: time.Millisecond, longest: 10 * time.Millisecond, state: 20 * time.Second, settle: 5 * time.Second,
	role: 5 * time.Second, probe: 20 * time.Second,
	grace: 5 * time.Second, late: time.Second, follow: logs.Pace{
		First: time.Millisecond, Longest: 20 * time.Millisecond},
}

// model is the official model, if this machine has it.
var model = sync.OnceValues(lambdatest.FindModel)

// serve starts a fake that reports problems to the test.
func serve(t testing.TB, cfg lambdatest.Config) *lambdatest.Server {
	t.Helper()
	m, err := model()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Model, cfg.Errorf = m, t.Errorf
	if cfg.Pending == 0 {
		cfg.Pending, cfg.Updating = 3*time.Millisecond, 3*time.Millisecond
	}
	server := lambdatest.New(cfg)
	t.Cleanup(server.Close)
	return server
}

type opening struct {
	options map[string]string
	client  *http.Client
	region  string
	pace    *pace
}

// openAt opens an executor on a fake. It does not read the environment, so that tests can run at
// the same time.
func openAt(t testing.TB, server *lambdatest.Server, service string, o opening) *Executor {
	t.Helper()
	e, err := tryOpen(t, server, service, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func tryOpen(t testing.TB, server *lambdatest.Server, service string, o opening) (*Executor, error) {
	options := map[string]string{"role_arn": server.RoleARN()}
	for name, value := range o.options {
		options[name] = value
	}
	p := fastPace
	if o.pace != nil {
		p = *o.pace
	}
	env := server.Environment()
	return open(t.Context(), faas.Config{Provider: faas.AWSLambda, Service: service, Region: o.region, Options: options,
		HTTPClient: o.client}, p,
		config.WithBaseEndpoint(server.URL()), config.WithSharedConfigFiles([]string{}),
		config.WithSharedCredentialsFiles([]string{}),
		config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(
			env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], "")))
}

func TestConformance(t *testing.T) {
	if *endpointFlag {
		t.Skip("TestConformanceAtEndpoint runs in its place")
	}
	server := serve(t, lambdatest.Config{})
	faastest.Run(t, faastest.Harness{
		Provider: faas.AWSLambda, MaxBody: maxSyncPayload,
		MaxCompact: (maxSyncPayload - len(`{"job_id":1,"args":{"base64":""}}`)) / 4 * 3,
		Open: func(t testing.TB, service string) faas.Executor {
			return openAt(t, server, service, opening{})
		},
		OpenIn: func(t testing.TB, service string, sky *faastest.Sky) faas.Executor {
			return openAt(t, server, service, opening{client: &http.Client{Transport: sky.Transport(&http.Transport{})}})
		},
		OpenLossy: func(t testing.TB, service string) faas.Executor {
			client := &http.Client{Transport: faastest.FaultyTransport(&http.Transport{}, func(*http.Request) *faastest.Fault {
				return &faastest.Fault{Kind: faastest.LostAnswer}
			})}
			return openAt(t, server, service, opening{client: client})
		},
	})
	if left := server.Left(); !onlyLogs(left) {
		t.Errorf("left behind: %v", left)
	}
}

func onlyLogs(left []string) bool {
	for _, l := range left {
		if l[:4] != "log " {
			return false
		}
	}
	return true
}
