package payloads

import (
	"bytes"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
)

func TestCheckIsExactInEveryForm(t *testing.T) {
	lambda, azure, platform := Of(faas.AWSLambda, 6<<20, Base64), Of(faas.AzureFunctions, 100<<20, Raw),
		Of(faas.Custom, 0, Raw)
	for _, test := range []struct {
		name  string
		limit Limit
		form  Form
		fits  int // bytes of the value
		value byte
		says  string
	}{
		{"Lambda, numbers of one digit", lambda, Numbers, (6<<20 - len(`{"job_id":7,"args":[]}`) + 1) / 2, 1, "faas/job"},
		{"Lambda, numbers of three digits", lambda, Numbers, (6<<20 - len(`{"job_id":7,"args":[]}`) + 1) / 4, 255,
			"faas/job"},
		{"Lambda, compact", lambda, Base64, (6<<20 - len(`{"job_id":7,"args":{"base64":""}}`)) / 4 * 3, 255, "a request of"},
		{"Azure, raw", azure, Raw, 100 << 20, 255, "the limit is 104857600"},
		{"a platform, numbers", platform, Numbers, 5 << 20, 255, "the limit is 5242880"},
		{"a platform, raw", platform, Raw, 5 << 20, 255, "the limit is 5242880"},
	} {
		args := bytes.Repeat([]byte{test.value}, test.fits+1)
		if err := test.limit.Check(test.form, 7, args[:test.fits]); err != nil {
			t.Errorf("%s: %d bytes: %v", test.name, test.fits, err)
		}
		err := test.limit.Check(test.form, 7, args)
		var failed *faas.Error
		if !errors.As(err, &failed) || failed.Code != faas.ErrTooLarge || !failed.NotRun || failed.JobID != 7 ||
			!strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %d bytes: %v, want an ErrTooLarge that says %q", test.name, len(args), err, test.says)
		}
	}
	// What no form carries is not said to be lifted.
	if err := lambda.Check(Numbers, 7, bytes.Repeat([]byte{255}, 5<<20)); strings.Contains(err.Error(), "faas/job") {
		t.Error(err)
	}
}

func TestMostFitsWhateverTheBytesAre(t *testing.T) {
	for _, body := range []int{1 << 20, 1<<20 + 1, 1<<20 + 2, 1<<20 + 3} {
		l := Limit{"x", 1 << 30, body, Base64}
		for _, form := range []Form{Numbers, Base64, Raw} {
			if err := l.Check(form, math.MaxUint32, bytes.Repeat([]byte{255}, l.Most(form))); err != nil {
				t.Errorf("form %d, %d bytes: %v", form, body, err)
			}
		}
	}
}

func TestMarksAreBoundToThePackage(t *testing.T) {
	one, other := strings.Repeat("1", 64), strings.Repeat("2", 64)
	for _, test := range []struct {
		value, pkg string
		want       bool
	}{{Mark(one), one, true}, {Mark(one), other, false}, {"", "", false}, {Mark(""), "", false}, {"", one, false}} {
		if got := IsMark(test.value, test.pkg); got != test.want {
			t.Errorf("IsMark(%q, %q) = %t", test.value, test.pkg, got)
		}
	}
}

func call(jobID uint32, args []byte) (http.Header, []byte) {
	body, err := io.ReadAll(NewBody(args).Open())
	if err != nil {
		panic(err)
	}
	return CallHeaders(jobID, args), body
}

func TestCallsArriveAsTheyWereSent(t *testing.T) {
	for _, args := range [][]byte{nil, {0}, {255}, []byte(`{"job_id":1,"args":[]}`)} {
		h, body := call(math.MaxUint32, args)
		if len(args) > 0 && body[0] != 0 {
			t.Errorf("the body of %q begins with %q", args, body[0])
		}
		if _, _, _, err := faas.ParseAnyRequest(nil, body); err == nil {
			t.Errorf("the body of %q passes for a request of another form", args)
		}
		c, err := ParseCall(h)
		if err != nil || c.JobID != math.MaxUint32 {
			t.Fatalf("%+v, %v", c, err)
		}
		got, err := c.Arguments(body)
		if err != nil || !bytes.Equal(got, args) {
			t.Errorf("%q became %q, %v", args, got, err)
		}
	}
}

func TestABodyThatIsReleasedIsReadNoMore(t *testing.T) {
	b := NewBody([]byte("abc"))
	r := b.Open()
	if n, err := r.Read(make([]byte, 2)); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	b.Release()
	for _, r := range []io.Reader{r, b.Open()} {
		if n, err := r.Read(make([]byte, 2)); n != 0 || !errors.Is(err, http.ErrBodyReadAfterClose) {
			t.Errorf("%d bytes, %v", n, err)
		}
	}
}

func TestAnswersArriveAsTheyWereSent(t *testing.T) {
	for _, want := range []faas.Response{
		{JobID: 7, Result: []byte("out"), Success: true, Compact: true, ExecutionMS: 1.25, MemoryUsedMB: 9},
		{JobID: math.MaxUint32, Result: []byte{}, Success: true, Compact: true},
	} {
		h := http.Header{}
		SetAnswer(h, &want)
		got, err := ParseAnswer(h, want.Result)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if _, err := ParseAnswer(h, append(want.Result, 0)); err == nil {
			t.Error("an output that grew on the way is taken")
		}
	}
	if _, err := ParseAnswer(http.Header{contentType: {rawType}}, []byte("hello")); !errors.Is(err, ErrNotRaw) {
		t.Errorf("an answer without the header: %v", err)
	}
}

func FuzzParseCall(f *testing.F) {
	f.Add("application/octet-stream; blueprint=1; job=7; size=3; first=42", []byte("\x00bc"))
	f.Add("application/octet-stream; blueprint=1; job=4294967295;size=0", []byte{})
	f.Add("application/octet-stream; blueprint=1; first=1; job=1; size=1; job=1", []byte{0})
	f.Fuzz(func(t *testing.T, text string, body []byte) {
		c, err := ParseCall(http.Header{contentType: {text}})
		if err != nil {
			if faas.CodeOf(err) != faas.ErrInvalidArgument {
				t.Fatalf("error %v", err)
			}
			return
		}
		args, err := c.Arguments(bytes.Clone(body))
		if err != nil {
			return
		}
		h, sent := call(c.JobID, args)
		if !bytes.Equal(sent, body) {
			t.Fatalf("%q makes %q of %q, which is sent as %q", text, args, body, sent)
		}
		if again, err := ParseCall(h); err != nil || again != c {
			t.Fatalf("%q: %+v, and written anew %+v, %v", text, c, again, err)
		}
	})
}

func FuzzParseAnswer(f *testing.F) {
	f.Add("application/octet-stream; blueprint=1; job=7; size=3; execution_ms=1.5; memory_mb=12", []byte("abc"))
	f.Add("application/octet-stream; blueprint=1; job=7; size=0; execution_ms=1e999; memory_mb=-1", []byte{})
	f.Add("application/octet-stream; blueprint=1; job=7; size=0; execution_ms=1e300", []byte{})
	f.Fuzz(func(t *testing.T, text string, body []byte) {
		r, err := ParseAnswer(http.Header{contentType: {text}}, body)
		if err != nil {
			return
		}
		if !r.Success || !bytes.Equal(r.Result, body) || !(r.ExecutionMS >= 0 && r.ExecutionMS <= math.MaxFloat64) {
			t.Fatalf("%q: %+v", text, r)
		}
		h := http.Header{}
		SetAnswer(h, &r)
		if again, err := ParseAnswer(h, body); err != nil || again.JobID != r.JobID || again.MemoryUsedMB != r.MemoryUsedMB {
			t.Fatalf("%q: %+v, and written anew %+v, %v", text, r, again, err)
		}
	})
}

// What the raw form costs of both sides, beside copying the same bytes as often.
func BenchmarkRaw(b *testing.B) {
	for _, size := range []int{64 << 10, 1 << 20, 4 << 20} {
		args, wire, into := make([]byte, size), make([]byte, size), make([]byte, size)
		source := rand.NewChaCha8([32]byte{})
		_, _ = source.Read(args) // never fails
		name := map[int]string{64 << 10: "64KB", 1 << 20: "1MB", 4 << 20: "4MB"}[size]
		b.Run(name+"/raw", func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				h, body := CallHeaders(7, args), NewBody(args)
				if _, err := io.ReadFull(body.Open(), wire); err != nil {
					b.Fatal(err)
				}
				body.Release()
				c, err := ParseCall(h)
				if err == nil {
					_, err = c.Arguments(into[:copy(into, wire)])
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/floor", func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				copy(wire, args)
				copy(into, wire)
			}
		})
	}
}
