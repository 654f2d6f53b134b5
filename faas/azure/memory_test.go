//go:build !faas_only || faas_azure

package azure

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tangle-network/blueprint-serverless/faas/azure/internal/azuretest"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/internal/alloctest"
)

// large is the size in bytes of a package of which only a small part may be in memory.
const large = 48 << 20

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// carried returns a transport that takes packages, and returns a former one, without keeping them.
func carried(received *int64) func(http.RoundTripper) http.RoundTripper {
	return func(base http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			answer := &http.Response{StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Request: r}
			switch {
			case r.Method == http.MethodPost && r.URL.Path == "/api/publish":
				n, err := io.Copy(struct{ io.Writer }{io.Discard}, r.Body)
				if err != nil {
					return nil, err
				}
				*received, answer.StatusCode = n, http.StatusAccepted
				answer.Body = io.NopCloser(strings.NewReader(`"one"`))
			case strings.HasPrefix(r.URL.Path, "/api/deployments/"):
				answer.Body = io.NopCloser(strings.NewReader(`{"status":4}`))
			case strings.HasSuffix(r.URL.Path, "/"+releasedPackage):
				answer.Body, answer.ContentLength = io.NopCloser(io.LimitReader(zeros{}, large)), large
			default:
				return base.RoundTrip(r)
			}
			return answer, nil
		})
	}
}

func TestPackagesAreNeverWholeInMemory(t *testing.T) {
	var received int64
	server := serve(t, azuretest.Config{})
	e := openAt(t, server, "large", opening{wrap: carried(&received)})
	zip := &keptPackage{path: filepath.Join(t.TempDir(), "large.zip"), size: large}
	if err := os.WriteFile(zip.path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(zip.path, large); err != nil {
		t.Fatal(err)
	}
	s := &site{Properties: siteProperties{HostStates: []sslHost{{Name: "publish.test", HostType: "Repository"}}}}
	c := &convergence{Executor: e, id: e.names.app}
	var err error
	if cost := alloctest.Bytes(func() { err = c.publish(t.Context(), s, zip) }); err != nil || received != large ||
		cost > large/8 {
		t.Errorf("the upload of %d bytes, of which %d arrived, took %d bytes of memory, error %v", large, received, cost, err)
	}
	var kept *keptPackage
	if cost := alloctest.Bytes(func() {
		kept, err = e.keepPackage(
			t.Context(), server.URL()+"/blob/account/container", accessToken)
	}); err != nil || kept.size != large || cost > large/8 {
		t.Errorf("to keep %d bytes took %d bytes of memory, error %v", large, cost, err)
	}
}

func TestAFormerPackageIsReadOnWhereTheConnectionBroke(t *testing.T) {
	t.Parallel()
	var asked []string // the part of each request
	server := serve(t, azuretest.Config{})
	e := openAt(t, server, "broken", opening{wrap: func(base http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			resp, err := base.RoundTrip(r)
			if err == nil && r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/"+releasedPackage) {
				part := ""
				for name, values := range r.Header { // azblob does not write names as net/http does
					if strings.EqualFold(name, "x-ms-range") {
						part = strings.Join(values, "")
					}
				}
				if asked = append(asked, part); len(asked) == 1 {
					resp.Body = &breaking{resp.Body, resp.ContentLength / 2}
				}
			}
			return resp, err
		})
	}})
	first := unitOf(t, e, wanted(someJobs...))
	prior := converge(t, e, first)
	if _, err := e.Converge(t.Context(), unitOf(t, e, withValue(wanted(faastest.JobEnv), "the-second-value")), &prior,
		nil); err != nil {
		t.Fatal(err)
	}
	if len(asked) != 2 || asked[0] != "" || asked[1] == "" {
		t.Fatalf("the package was asked for in the parts %q, want all and then the rest", asked)
	}
	if err := e.Restore(t.Context(), prior); err != nil {
		t.Fatal(err)
	}
	sees(t, e, "the-first-value")
	if s, err := e.Observe(t.Context(), first.ID); err != nil || !s.Current(first) {
		t.Errorf("after Restore: %+v, error %v", s, err)
	}
}

// breaking is a body whose connection breaks after some bytes.
type breaking struct {
	io.ReadCloser
	left int64
}

func (b *breaking) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
