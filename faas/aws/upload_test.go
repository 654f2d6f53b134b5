//go:build !faas_only || faas_aws

package aws

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/aws/smithy-go"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/alloctest"
	"github.com/tangle-network/blueprint-serverless/internal/lambdatest"
)

func readPackage(p *faas.Package) ([]byte, error) {
	f, err := p.Open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// noise returns a package that packing does not make smaller.
func noise(t testing.TB, size int) *faas.Package {
	t.Helper()
	content := make([]byte, size)
	if _, err := rand.NewChaCha8([32]byte{1}).Read(content); err != nil {
		t.Fatal(err)
	}
	pkg, err := faas.BuildPackage(t.Context(), t.TempDir(),
		[]faas.PackageFile{{Name: bootstrapName, Content: content, Mode: 0o755}})
	if err != nil {
		t.Fatal(err)
	}
	return pkg
}

func TestAPackageIsEncodedWhereverItIsReadFrom(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 2, 3, blockSize - 1, blockSize, blockSize + 1, 2*blockSize + 2, 3 * blockSize} {
		content := strings.Repeat("blueprint", size/9+1)[:size]
		body := &packageBody{head: []byte(`{"Zip":"`), tail: []byte(`"}`), zip: strings.NewReader(content), size: int64(size)}
		want := `{"Zip":"` + base64.StdEncoding.EncodeToString([]byte(content)) + `"}`
		if err := iotest.TestReader(body, []byte(want)); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	short := &packageBody{zip: strings.NewReader("short"), size: 100}
	if _, err := io.ReadAll(short); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a package that was cut meanwhile: %v", err)
	}
}

// sink is a Lambda that takes packages and stores nothing.
type sink struct {
	requests atomic.Int64
	bytes    atomic.Int64
}

func (s *sink) RoundTrip(r *http.Request) (*http.Response, error) {
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		return nil, err
	}
	s.requests.Add(1)
	s.bytes.Add(n)
	if r.ContentLength != n {
		return nil, fmt.Errorf("%d bytes were announced, and %d were sent", r.ContentLength, n)
	}
	return &http.Response{StatusCode: 201, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("{}")), Request: r,
		ProtoMajor: 1, ProtoMinor: 1}, nil
}

// Without a bucket, a copy of the package is sent for every function, and none is held in memory.
func TestManyUploadsOfABigPackageTakeLittleMemory(t *testing.T) {
	alone(t, nil)
	const functions = 8
	pkg := noise(t, 16_000_000)
	lambda := &sink{}
	e, err := open(t.Context(), faas.Config{Service: "svc",
		Options:    map[string]string{"role_arn": "arn:aws:iam::123456789012:role/r"},
		HTTPClient: &http.Client{Transport: lambda}}, fastPace)
	if err != nil {
		t.Fatal(err)
	}
	allocated := alloctest.Bytes(func() {
		var all sync.WaitGroup
		for i := range uint32(functions) {
			all.Go(func() {
				f := small(i)
				c := &convergence{Executor: e, unit: faas.Unit{ID: functionName("svc", i), Package: pkg}, job: f,
					report: func(faas.Progress) {}}
				up, err := c.upload(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				in := e.wantedSettings(f, e.options.roleArn).creation(c.unit.ID, "x86_64")
				in.Code = &up.code
				if _, err := e.lambda.CreateFunction(t.Context(), in, up.send); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	})
	if lambda.requests.Load() != functions || lambda.bytes.Load() < functions*pkg.Size()*4/3 {
		t.Errorf("%d requests with %d bytes", lambda.requests.Load(), lambda.bytes.Load())
	}
	// All that was ever allocated, even if it was freed, is more than what was held at any time.
	if most := uint64(2 * pkg.Size()); allocated > most {
		t.Errorf("%d uploads of %d bytes allocated %d, more than %d", functions, pkg.Size(), allocated, most)
	}
	t.Logf("%d uploads of %d bytes allocated %d", functions, pkg.Size(), allocated)
}

func TestFunctionsTakeABigPackageFromTheBucket(t *testing.T) {
	t.Parallel()
	const functions = 8
	for name, tt := range map[string]struct {
		size, puts int
	}{
		"a few MB": {maxSlice + 1000, 1},
		"little":   {1000, 0},
	} {
		server := serve(t, lambdatest.Config{Handler: answering})
		server.CreateBucket("packages")
		e := openAt(t, server, "shared", opening{options: map[string]string{"bucket": "packages"}})
		pkg := noise(t, tt.size)
		var all sync.WaitGroup
		for i := range uint32(functions) {
			all.Go(func() {
				u := unitOf(t, e, script(t, "x"), small(i))
				u.Package = pkg
				if _, err := deploy(t.Context(), e, u); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := len(server.Calls("PutObject")); n != tt.puts {
			t.Errorf("%s: %d uploads to the bucket, want %d", name, n, tt.puts)
		}
		for _, call := range server.Calls("CreateFunction") {
			var in struct {
				Code struct{ S3Key, ZipFile string }
			}
			if err := json.Unmarshal(call.Body, &in); err != nil || (in.Code.S3Key != "") != (tt.puts > 0) ||
				(in.Code.ZipFile == "") != (tt.puts > 0) {
				t.Errorf("%s: code %+v, %v", name, in.Code, err)
			}
		}
		for i := range uint32(functions) {
			got, _ := server.Function(functionName("shared", i))
			sum, err := hex.DecodeString(pkg.SHA256())
			if err != nil {
				t.Fatal(err)
			}
			if got.CodeSha256 != base64.StdEncoding.EncodeToString(sum) {
				t.Errorf("%s: function %d has code %s", name, i, got.CodeSha256)
			}
		}
	}
}

// A package that fits in a request is deployed even if the bucket may not be used.
func TestABucketThatIsNotAllowedIsDoneWithout(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Handler: answering, Fault: failing("PutObject", 403, "AccessDenied")})
	server.CreateBucket("packages")
	e := openAt(t, server, "denied", opening{options: map[string]string{"bucket": "packages"}})
	u := unitOf(t, e, script(t, "x"), small(0))
	u.Package = noise(t, maxSlice+1)
	mustDeploy(t, e, u)
	if n := len(server.Calls("PutObject")); n != 1 {
		t.Errorf("%d uploads to the bucket", n)
	}
}

// A package may have expired from the bucket when Lambda takes it.
func TestAPackageThatHasExpiredIsPutAgain(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Handler: answering, Fault: func(c lambdatest.Call) *lambdatest.Fault {
		if c.Operation == "CreateFunction" && c.N == 1 {
			return &lambdatest.Fault{Status: 400, Code: codeInvalid,
				Message: "Error occurred while GetObject. S3 Error Code: NoSuchKey. S3 Error Message: The specified key does " +
					"not exist."}
		}
		return nil
	}})
	server.CreateBucket("packages")
	e := openAt(t, server, "expired", opening{options: map[string]string{"bucket": "packages"}})
	u := unitOf(t, e, script(t, "x"), small(0))
	u.Package = noise(t, maxSlice+1)
	mustDeploy(t, e, u)
	if n := len(server.Calls("HeadObject")); n != 2 {
		t.Errorf("the bucket was looked into %d times", n)
	}
}

func TestASlowLineIsNamed(t *testing.T) {
	t.Parallel()
	const text = "Signature expired: 20261130T204500Z is now earlier than 20261130T204600Z (20261130T205100Z - 5 min.)"
	for _, operation := range []string{"CreateFunction", "UpdateFunctionCode"} {
		var fail atomic.Bool
		server := serve(t, lambdatest.Config{Handler: answering, Fault: func(c lambdatest.Call) *lambdatest.Fault {
			if c.Operation == operation && fail.Load() {
				return &lambdatest.Fault{Status: 403, Code: "InvalidSignatureException", Message: text}
			}
			return nil
		}})
		e := openAt(t, server, "slow", opening{})
		if operation == "UpdateFunctionCode" {
			mustDeploy(t, e, unitOf(t, e, script(t, "x"), small(0)))
		}
		fail.Store(true)
		_, err := deploy(t.Context(), e, unitOf(t, e, script(t, "y"), small(0)))
		var api smithy.APIError
		if faas.CodeOf(err) != faas.ErrTimeout || !errors.As(err, &api) ||
			!strings.Contains(err.Error(), "the line is too slow") || !strings.Contains(err.Error(), "bucket") {
			t.Errorf("%s: %v (%q)", operation, err, faas.CodeOf(err))
		}
		if n := len(server.Calls(operation)); n != 1 {
			t.Errorf("%s was sent %d times", operation, n)
		}
	}
	if signatureExpired(sdkError(403, "InvalidSignatureException")) {
		t.Error("any refused signature is a slow line")
	}
}
