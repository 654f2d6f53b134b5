package faas

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/internal/alloctest"
)

// object is the oracle of the fuzz targets. It returns the members of a JSON object as
// encoding/json reads them, or an error if the text is not an object, and whether a name is
// duplicate.
func object(text []byte, names ...string) (members map[string]json.RawMessage, twice bool, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	members = map[string]json.RawMessage{}
	if tok, err := d.Token(); err != nil || tok != json.Delim('{') {
		return nil, false, fmt.Errorf("no object: %v", err)
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, false, err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, false, err
		}
		key := name.(string)
		for _, n := range names {
			if _, dup := members[key]; dup && n == key {
				twice = true
			}
		}
		members[key] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, false, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, false, fmt.Errorf("something after the object")
	}
	return members, twice, nil
}

func oracleBytes(raw json.RawMessage) ([]byte, error) {
	var items []json.RawMessage
	if len(raw) == 0 || raw[0] != '[' {
		return nil, errors.New("not a list")
	}
	if err := json.Unmarshal(raw, &items); err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(items))
	for _, item := range items {
		var b uint8
		if string(item) == "null" {
			return nil, errors.New("null in a list")
		}
		if err := json.Unmarshal(item, &b); err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

// oracleEither reads a job's bytes in either form.
func oracleEither(raw json.RawMessage) (data []byte, compact bool, err error) {
	if len(raw) == 0 || raw[0] != '{' {
		data, err = oracleBytes(raw)
		return data, false, err
	}
	members, twice, err := object(raw, "base64")
	if err != nil || twice || len(members) != 1 {
		return nil, false, errors.New("not the one member base64")
	}
	var text *string
	if err := json.Unmarshal(members["base64"], &text); err != nil || text == nil {
		return nil, false, errors.New("base64 is not a string")
	}
	if data, err = base64.StdEncoding.DecodeString(*text); err == nil && base64.StdEncoding.EncodeToString(data) != *text {
		err = errors.New("base64 that nobody writes")
	}
	return data, true, err
}

func tooDeep(text []byte) bool {
	depth, deepest := 0, 0
	for _, c := range text { // counts brackets in strings too: then the comparison is skipped for nothing
		switch c {
		case '{', '[':
			depth++
			deepest = max(deepest, depth)
		case '}', ']':
			depth--
		}
	}
	return deepest > maxDepth
}

func TestPayloadsCostNoMoreThanTheirSize(t *testing.T) {
	const n = 1 << 20
	for name, text := range map[string]string{
		"backslashes in an error": `{"error":"` + strings.Repeat(`\\`, n) + `"}`,
		"bytes that are no UTF-8": `{"error":"` + strings.Repeat("\xff", n) + `"}`,
		"backslashes in a name":   `{"` + strings.Repeat(`\\`, n) + `":1,"result":[]}`,
		"names":                   `{` + strings.Repeat(`"\u0061":1,`, n/10) + `"result":[]}`,
		"commas that are no list": `{"result":[` + strings.Repeat(",", n),
		"a list":                  `{"result":[` + strings.Repeat("1,", n) + `1]}`,
		"a list with spaces":      `{"result":[` + strings.Repeat("1 , ", n) + `1]}`,
		"a list in another":       `{"x":[` + strings.Repeat("[],", n) + `[]],"result":[]}`,
		"a number that is long":   `{"execution_ms":` + strings.Repeat("1", n) + `}`,
		"a fraction that is long": `{"execution_ms":0.` + strings.Repeat("1", n) + `,"result":[]}`,
		"an item that is long":    `{"result":[` + strings.Repeat("1", n) + `]}`,
		"objects that are deep":   `{"x":` + strings.Repeat(`{"x":`, n),
		"white space":             strings.Repeat(" ", n) + `{"result":[]}` + strings.Repeat(" ", n),
		"a member that is there twice": `{"result":[` + strings.Repeat("1,", n) + `1],"result":[` +
			strings.Repeat("1,", n) + `1]}`,
		"a string that does not end":    `{"error":"` + strings.Repeat(`\"`, n),
		"surrogates that have no other": `{"error":"` + strings.Repeat(`\ud800`, n) + `"}`,
	} {
		body := []byte(text)
		if cost := alloctest.Bytes(func() {
			var r Response
			_ = ParseResponse(body, &r)
			_, _, _ = ParseRequest(nil, body)
		}); cost > 16*uint64(len(body))+4096 { // an invalid byte becomes three, in a buffer that grows
			t.Errorf("%s: %d bytes were allocated for %d", name, cost, len(body))
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	for _, seed := range []string{
		`{"job_id":1,"args":[1,22,255,0,100,7,10,99,200]}`, `{"args":[256,1,1,1,1,1],"job_id":01}`,
		`{"job_id":1,"args":[1, 2,3 ],"x":{"y":["\u12aF",-1.5e3]}}`,
		`{"job_id":1,"job_id":2,"args":[00,0,1.0,1e1]}`, "{\"\xff\":\"\xff\",\"job_id\":4294967296,\"args\":[]} ",
		`{"job_id":1,"args":null}`, `{"job_id":-0,"args":[-0]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var job uint32
		var args []byte
		var err error
		if cost := alloctest.Roughly(func() { job, args, err = ParseRequest(nil, text) }); cost > 16*uint64(len(text))+
			alloctest.Slack {
			t.Fatalf("%d bytes were allocated for %d", cost, len(text))
		}
		if err == nil {
			if again, out, err := ParseRequest(nil, AppendRequest(nil, job, args)); err != nil || again != job ||
				!bytes.Equal(out, args) {
				t.Fatalf("round trip of %d, %v: %d, %v, %v", job, args, again, out, err)
			}
		} else if !errors.Is(err, ErrInvalidArgument) || !utf8.ValidString(err.Error()) {
			t.Fatalf("error %q", err)
		}
		if tooDeep(text) {
			return
		}
		wantJob, wantArgs, wantErr := func() (job uint32, args []byte, err error) {
			members, twice, err := object(text, "job_id", "args")
			if err != nil {
				return 0, nil, err
			}
			if twice || members["job_id"] == nil || members["args"] == nil || string(members["job_id"]) == "null" {
				return 0, nil, errors.New("members")
			}
			if err := json.Unmarshal(members["job_id"], &job); err != nil {
				return 0, nil, err
			}
			args, err = oracleBytes(members["args"])
			return job, args, err
		}()
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("ParseRequest: %v; encoding/json: %v", err, wantErr)
		}
		if err == nil && (job != wantJob || !bytes.Equal(args, wantArgs)) {
			t.Fatalf("ParseRequest: %d, %v; encoding/json: %d, %v", job, args, wantJob, wantArgs)
		}
	})
}

func FuzzParseAnyRequest(f *testing.F) {
	for _, seed := range []string{
		`{"job_id":1,"args":[1,22,255]}`, `{"job_id":1,"args":{"base64":"AQID"}}`,
		`{"args": { "base64" : "AP8=" } , "job_id":2}`, `{"job_id":1,"args":{"base64":""}}`,
		`{"job_id":1,"args":{"base64":"A\nQ=="}}`, `{"job_id":1,"args":{"base64":"AQ=="},"args":[]}`,
		`{"job_id":1,"args":{"base64":"\u0041Q=="}}`, `{"job_id":1,"args":{"base64":"AR=="}}`,
		`{"job_id":1,"args":{}}`, `{"job_id":1,"args":{"base64":"AQID","base64":"AQID"}}`,
		`{"job_id":1,"args":{"base64":null}}`, "{\"job_id\":1,\"args\":{\"base64\":\"AQ\nID\"}}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var job uint32
		var args []byte
		var compact bool
		var err error
		if cost := alloctest.Roughly(func() { job, args, compact, err = ParseAnyRequest(nil, text) }); cost > 16*uint64(
			len(text))+alloctest.Slack {
			t.Fatalf("%d bytes were allocated for %d", cost, len(text))
		}
		wantJob, wantArgs, published := ParseRequest(nil, text)
		switch {
		case err != nil:
			if !errors.Is(err, ErrInvalidArgument) || !utf8.ValidString(err.Error()) || published == nil {
				t.Fatalf("error %q; in the published form %v", err, published)
			}
		case !compact:
			if published != nil || job != wantJob || !bytes.Equal(args, wantArgs) {
				t.Fatalf("got %d, %v; ParseRequest: %d, %v, %v", job, args, wantJob, wantArgs, published)
			}
		default:
			if published == nil {
				t.Fatal("the compact form passes for the published one")
			}
			if again, out, compact, err := ParseAnyRequest(nil, AppendCompactRequest(nil, job, args)); err != nil || !compact ||
				again != job || !bytes.Equal(out, args) {
				t.Fatalf("round trip of %d, %v: %d, %v, %v, %v", job, args, again, out, compact, err)
			}
		}
		if tooDeep(text) {
			return
		}
		members, twice, oerr := object(text, "job_id", "args")
		if oerr == nil && !twice && len(members["args"]) > 0 && members["args"][0] == '{' &&
			json.Unmarshal(members["job_id"], new(uint32)) == nil && string(members["job_id"]) != "null" {
			want, _, wantErr := oracleEither(members["args"])
			if (err == nil) != (wantErr == nil) || err == nil && !bytes.Equal(args, want) {
				t.Fatalf("ParseAnyRequest: %v, %v; encoding/json: %v, %v", args, err, want, wantErr)
			}
		}
	})
}

func FuzzParseResponse(f *testing.F) {
	for _, seed := range []string{
		`{"job_id":2,"result":[0,64],"success":true,"execution_ms":12.5,"memory_used_mb":34}`, `{"result":[1,2]}`,
		`{"result":null}`,
		`{"result":{"base64":"AP8="}}`, `{"result":{"base64":"AP9="},"success":true}`,
		`{"result":{"base64":"\u002bP8\/"},"success":true}`,
		`{"result":{"base64":"AQID","x":1}}`, `{"success":false,"error":"\ud83d\ude00 \ud83d\u0041 \\ \xff"}`,
		"{\"error\":\"\xff\xc3\"}", `{"success":null,"error":null,"execution_ms":-0,"memory_used_mb":1e-5}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var r Response
		var err error
		if cost := alloctest.Roughly(func() { err = ParseResponse(text, &r) }); cost > 16*uint64(len(text))+alloctest.Slack {
			t.Fatalf("%d bytes were allocated for %d", cost, len(text))
		}
		if err == nil {
			var again Response
			if err := ParseResponse(AppendResponse(nil, &r), &again); err != nil {
				t.Fatalf("round trip of %+v: %v", r, err)
			}
			want := r
			if want.Success {
				want.Error = "" // not written
			}
			want.ExecutionMS = min(math.Ceil(want.ExecutionMS), maxWholeMS)
			if diff := cmp.Diff(want, again, cmp.Comparer(bytes.Equal)); diff != "" {
				t.Fatalf("round trip: %s", diff)
			}
		} else if !errors.Is(err, ErrInvalidArgument) {
			t.Fatalf("error %q", err)
		}
		if tooDeep(text) {
			return
		}
		want, wantErr := oracleResponse(text)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("ParseResponse: %v; encoding/json: %v", err, wantErr)
		}
		if diff := cmp.Diff(want, r, cmp.Comparer(bytes.Equal)); err == nil && diff != "" {
			t.Fatal(diff)
		}
	})
}

func oracleResponse(text []byte) (Response, error) {
	names := []string{"job_id", "result", "success", "error", "execution_ms", "memory_used_mb"}
	members, twice, err := object(text, names...)
	if err != nil {
		return Response{}, err
	}
	if twice {
		return Response{}, errors.New("a member twice")
	}
	present := func(name string) bool { raw, ok := members[name]; return ok && string(raw) != "null" }
	var r Response
	var memory float64
	for name, target := range map[string]any{"job_id": &r.JobID, "success": &r.Success, "error": &r.Error,
		"execution_ms": &r.ExecutionMS, "memory_used_mb": &memory} {
		if present(name) {
			if err := json.Unmarshal(members[name], target); err != nil {
				return Response{}, err
			}
		}
	}
	if r.ExecutionMS < 0 || memory < 0 || memory > math.MaxUint32 {
		return Response{}, errors.New("measurement out of range")
	}
	r.MemoryUsedMB = uint32(math.Ceil(memory))
	if present("result") {
		if r.Result, r.Compact, err = oracleEither(members["result"]); err != nil {
			return Response{}, err
		}
	}
	_, result := members["result"]
	switch {
	case present("success") && r.Success && !result:
		return Response{}, errors.New("no result")
	case present("success"):
	case result:
		r.Success = r.Error == ""
	case !present("error"):
		return Response{}, errors.New("an empty answer")
	}
	return r, nil
}
