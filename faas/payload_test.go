package faas

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAppendRequestWritesTheProtocolsExactText(t *testing.T) {
	for _, tt := range []struct {
		job  uint32
		args []byte
		want string
	}{
		{0, nil, `{"job_id":0,"args":[]}`},
		{7, []byte{0}, `{"job_id":7,"args":[0]}`},
		{math.MaxUint32, []byte{9, 10, 99, 100, 255}, `{"job_id":4294967295,"args":[9,10,99,100,255]}`},
	} {
		got := string(AppendRequest([]byte("before"), tt.job, tt.args))
		if got != "before"+tt.want {
			t.Errorf("AppendRequest(%d, %v) = %s, want %s", tt.job, tt.args, got, tt.want)
		}
	}
}

func TestParseRequestAcceptsAllEquivalentTexts(t *testing.T) {
	want := []byte{1, 22, 255, 0, 100, 7, 10, 99, 200}
	for name, text := range map[string]string{
		"compact":      `{"job_id":3,"args":[1,22,255,0,100,7,10,99,200]}`,
		"any order":    `{"args":[1,22,255,0,100,7,10,99,200],"job_id":3}`,
		"white space":  " \r\n\t{ \"job_id\" : 3 ,\n\"args\" : [ 1 , 22,255 ,\t0,100,7,\n10,99,200 ] } \n",
		"spaced":       `{"job_id": 3, "args": [1, 22, 255, 0, 100, 7, 10, 99, 200]}`,
		"escaped name": `{"job\u005fid":3,"\u0061rgs":[1,22,255,0,100,7,10,99,200]}`,
		"unknown members": `{"x":null,"job_id":3,"y":[{"args":[300]},[],{},"]}\"\\",-1.5e+7,true],` +
			`"z":{"job_id":9,"a":{"b":[[]]}},"args":[1,22,255,0,100,7,10,99,200],"":false}`,
		"unknown twice":        `{"x":1,"x":2,"job_id":3,"args":[1,22,255,0,100,7,10,99,200]}`,
		"names differ in case": `{"Job_ID":4,"ARGS":"x","job_id":3,"args":[1,22,255,0,100,7,10,99,200]}`,
		"unknown of 63 levels of list": `{"x":` + strings.Repeat("[", 63) + strings.Repeat("]", 63) +
			`,"job_id":3,"args":[1,22,255,0,100,7,10,99,200]}`,
	} {
		job, args, err := ParseRequest([]byte("ab"), []byte(text))
		if err != nil || job != 3 || !bytes.Equal(args, append([]byte("ab"), want...)) {
			t.Errorf("%s: ParseRequest = %d, %v, %v", name, job, args, err)
		}
	}
}

func TestParseRequestRefusesEverythingElse(t *testing.T) {
	request := func(args string) string { return `{"job_id":1,"args":` + args + `}` }
	for _, tt := range []struct{ text, want string }{
		{``, `the text ends where a JSON object should be (at byte 0)`},
		{`  `, `the text ends where a JSON object should be (at byte 2)`},
		{`null`, `"n" where a JSON object should be (at byte 0)`},
		{`[1]`, `"[" where a JSON object should be (at byte 0)`},
		{"\ufeff{}", `"\xef" where a JSON object should be (at byte 0)`},
		{`{}`, `job_id: the member is missing`},
		{`{"job_id":1}`, `args: the member is missing`},
		{`{"args":[1]}`, `job_id: the member is missing`},
		{`{"job_id":1,"args":[]}x`, `"x" where the end of the text should be (at byte 22)`},
		{`{"job_id":1,"args":[]}{}`, `"{" where the end of the text should be (at byte 22)`},
		{"{\"job_id\":1,\"args\":[]}\x00", `"\x00" where the end of the text should be (at byte 22)`},
		{`{"job_id":1,"args":[],}`, `"}" where a member name should be (at byte 22)`},
		{`{,"job_id":1,"args":[]}`, `"," where a member name should be (at byte 1)`},
		{`{"job_id":1 "args":[]}`, `"\"" where a comma or the end of the object should be (at byte 12)`},
		{`{"job_id" 1}`, `"1" where a colon should be (at byte 10)`},
		{`{job_id:1}`, `"j" where a member name should be (at byte 1)`},
		{`{"job_id":1,"job_id":1,"args":[]}`, `job_id: the member is there twice (at byte 21)`},
		{`{"job_id":1,"args":[],"args":[]}`, `args: the member is there twice (at byte 29)`},
		{`{"job_id":1,"args":[],"\u0061rgs":[]}`, `args: the member is there twice (at byte 34)`},
		{`{"job_id":4294967296,"args":[]}`, `job_id: 4294967296 is above 4294967295 (at byte 10)`},
		{`{"job_id":-1,"args":[]}`, `job_id: -1 is not an integer from 0 to 4294967295 (at byte 10)`},
		{`{"job_id":1.0,"args":[]}`, `job_id: 1.0 is not an integer from 0 to 4294967295 (at byte 10)`},
		{`{"job_id":1e2,"args":[]}`, `job_id: 1e2 is not an integer from 0 to 4294967295 (at byte 10)`},
		{`{"job_id":01,"args":[]}`, `job_id: a number has a leading zero (at byte 10)`},
		{`{"job_id":"1","args":[]}`, `job_id: "\"" where a number should be (at byte 10)`},
		{`{"job_id":null,"args":[]}`, `job_id: "n" where a number should be (at byte 10)`},
		{`{"job_id":1`, `the text ends where a comma or the end of the object should be (at byte 11)`},
		{request(`null`), `args: "n" where a list of bytes should be (at byte 19)`},
		{request(`"AQI="`), `args: "\"" where a list of bytes should be (at byte 19)`},
		{request(`{}`), `args: "{" where a list of bytes should be (at byte 19)`},
		{request(`[256]`), `args[0]: 256 is not an integer from 0 to 255 (at byte 20)`},
		{request(`[1,2,3,4,5,6,256,7,8,9]`), `args[6]: 256 is not an integer from 0 to 255 (at byte 32)`},
		{request(`[1,2,3,4,5,6,1000,7,8,9]`), `args[6]: 1000 is not an integer from 0 to 255 (at byte 32)`},
		{request(`[1,2,00,4,5,6,7,8,9]`), `args[2]: 00 is not an integer from 0 to 255 (at byte 24)`},
		{request(`[1,2,012,4,5,6,7,8,9]`), `args[2]: 012 is not an integer from 0 to 255 (at byte 24)`},
		{request(`[1,-0,3,4,5,6,7,8,9]`), `args[1]: -0 is not an integer from 0 to 255 (at byte 22)`},
		{request(`[1,2.0,3,4,5,6,7,8,9]`), `args[1]: 2.0 is not an integer from 0 to 255 (at byte 22)`},
		{request(`[1,1e2,3,4,5,6,7,8,9]`), `args[1]: 1e2 is not an integer from 0 to 255 (at byte 22)`},
		{request(`[99999999999999999999999999999999]`),
			`args[0]: 999999999999999999999999... is not an integer from 0 to 255 (at byte 20)`},
		{request(`[1,2,,4,5,6,7,8,9]`), `args[2]: "," where an integer from 0 to 255 should be (at byte 24)`},
		{request(`[,1,2,3,4,5,6]`), `args[0]: "," where an integer from 0 to 255 should be (at byte 20)`},
		{request(`[1,2,3,4,5,6,]`), `args[6]: "]" where an integer from 0 to 255 should be (at byte 32)`},
		{request(`[1 2,3,4,5,6,7]`), `args: "2" where a comma or the end of the list should be (at byte 22)`},
		{request(`[1,2;3,4,5,6,7]`), `args: ";" where a comma or the end of the list should be (at byte 23)`},
		{request(`[1,[2],3]`), `args[1]: "[" where an integer from 0 to 255 should be (at byte 22)`},
		{request(`[1,"2",3]`), `args[1]: "\"" where an integer from 0 to 255 should be (at byte 22)`},
		{request(`[1,null,3]`), `args[1]: "n" where an integer from 0 to 255 should be (at byte 22)`},
		{`{"job_id":1,"args":[1,2,3,4,5,6,7,8,9,10`,
			`args: the text ends where a comma or the end of the list should be (at byte 40)`},
		{`{"job_id":1,"args":[1,2,3,`, `args[3]: the text ends where an integer from 0 to 255 should be (at byte 26)`},
		{`{"job_id":1,"args":[`, `args[0]: the text ends where an integer from 0 to 255 should be (at byte 20)`},
		{`{"x":tru,"job_id":1,"args":[]}`, `"t" where true or false should be (at byte 5)`},
		{`{"x":nul,"job_id":1,"args":[]}`, `"n" where a value should be (at byte 5)`},
		{`{"x":,"job_id":1,"args":[]}`, `"," where a value should be (at byte 5)`},
		{`{"x":[1,],"job_id":1,"args":[]}`, `"]" where a value should be (at byte 8)`},
		{`{"x":[1 2],"job_id":1,"args":[]}`, `"2" where a comma or the end of the list should be (at byte 8)`},
		{`{"x":{"y"},"job_id":1,"args":[]}`, `"}" where a colon should be (at byte 9)`},
		{`{"x":"\q","job_id":1,"args":[]}`, `an unknown escape in a string (at byte 6)`},
		{`{"x":"\u12x4","job_id":1,"args":[]}`, `\u without four hexadecimal digits (at byte 6)`},
		{"{\"x\":\"\n\"}", `a control character in a string (at byte 6)`},
		{`{"x":"\`, `the text ends in a string (at byte 7)`},
		{`{"x":1.,"job_id":1,"args":[]}`, `"," where a digit should be (at byte 7)`},
		{`{"x":1e,"job_id":1,"args":[]}`, `"," where a digit should be (at byte 7)`},
		{`{"x":-,"job_id":1,"args":[]}`, `"," where a number should be (at byte 6)`},
		{`{"x":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `,"job_id":1,"args":[]}`,
			`values are nested deeper than 64 levels (at byte 68)`},
		{`{"x":` + strings.Repeat(`{"a":`, 1<<16), `values are nested deeper than 64 levels (at byte 320)`},
	} {
		dst := []byte("kept")
		_, args, err := ParseRequest(dst, []byte(tt.text))
		if err == nil {
			t.Errorf("ParseRequest(%.60s) succeeded", tt.text)
			continue
		}
		if got, want := err.Error(), "faas: read request: "+tt.want; got != want || !errors.Is(err, ErrInvalidArgument) {
			t.Errorf("ParseRequest(%.60s)\n got %s\nwant %s", tt.text, got, want)
		}
		if string(args) != "kept" {
			t.Errorf("ParseRequest(%.60s) returned %q in place of dst", tt.text, args)
		}
	}
}

// This tries all neighbours of an item: the fast path looks at two items at a time, and must hand
// over to the careful path at every boundary.
func TestParseRequestReadsEveryByteAtEveryPosition(t *testing.T) {
	for length := 1; length <= 9; length++ {
		for v := range 256 {
			for at := range length {
				args := bytes.Repeat([]byte{byte(v * 7)}, length)
				args[at] = byte(v)
				_, got, err := ParseRequest(nil, AppendRequest(nil, 1, args))
				if err != nil || !bytes.Equal(got, args) {
					t.Fatalf("%v came back as %v, %v", args, got, err)
				}
			}
		}
	}
}

func TestResponsesAsTheProtocolWritesThem(t *testing.T) {
	for _, tt := range []struct {
		r    Response
		want string
	}{
		{Response{JobID: 2, Result: []byte{0, 64}, Success: true, ExecutionMS: 12, MemoryUsedMB: 34},
			`{"job_id":2,"result":[0,64],"success":true,"execution_ms":12,"memory_used_mb":34}`},
		{Response{Success: true, ExecutionMS: 0.25},
			`{"job_id":0,"result":[],"success":true,"execution_ms":1,"memory_used_mb":0}`},
		{Response{Success: true, ExecutionMS: 1.5e20},
			`{"job_id":0,"result":[],"success":true,"execution_ms":9007199254740992,"memory_used_mb":0}`},
		{Response{Success: true, ExecutionMS: math.NaN()},
			`{"job_id":0,"result":[],"success":true,"execution_ms":0,"memory_used_mb":0}`},
		{Response{Success: true, ExecutionMS: math.Inf(1)},
			`{"job_id":0,"result":[],"success":true,"execution_ms":0,"memory_used_mb":0}`},
		{Response{Success: true, ExecutionMS: -3},
			`{"job_id":0,"result":[],"success":true,"execution_ms":0,"memory_used_mb":0}`},
		{Response{JobID: 9, Error: "bad \"thing\"\n\x01\\ é \xff"},
			`{"job_id":9,"result":[],"success":false,"error":"bad \"thing\"\n\u0001\\ é ` + "\ufffd" + `"}`},
		{Response{Error: "late", ExecutionMS: 7, MemoryUsedMB: 8},
			`{"job_id":0,"result":[],"success":false,"error":"late","execution_ms":7,"memory_used_mb":8}`},
	} {
		if got := string(AppendResponse(nil, &tt.r)); got != tt.want {
			t.Errorf("AppendResponse(%+v)\n got %s\nwant %s", tt.r, got, tt.want)
		}
	}
}

func TestParseResponseAcceptsWhatPlatformsAndBinariesAnswer(t *testing.T) {
	for _, tt := range []struct {
		text string
		want Response
	}{
		{`{"job_id":2,"result":[0,64],"success":true,"execution_ms":12,"memory_used_mb":34}`,
			Response{JobID: 2, Result: []byte{0, 64}, Success: true, ExecutionMS: 12, MemoryUsedMB: 34}},
		{`{"result":[1,2]}`, Response{Result: []byte{1, 2}, Success: true}},
		{`{"result":[]}`, Response{Success: true}},
		{`{"result":null}`, Response{Success: true}},
		{`{"success":true,"result":null}`, Response{Success: true}},
		{`{"result":[1],"success":null,"error":null,"job_id":null,"execution_ms":null,"memory_used_mb":null}`,
			Response{Result: []byte{1}, Success: true}},
		{`{"result":[1],"error":""}`, Response{Result: []byte{1}, Success: true}},
		{`{"result":[1],"error":"no"}`, Response{Result: []byte{1}, Error: "no"}},
		{`{"success":false,"error":"no"}`, Response{Error: "no"}},
		{`{"success":false}`, Response{}},
		{`{"job_id":5,"result":[],"success":false,"error":"\ud83d\ude00 \ud83d \ude00\u00e9\/\"\\\b\f\n\r\t"}`,
			Response{JobID: 5, Error: "😀 \ufffd \ufffdé/\"\\\b\f\n\r\t"}},
		{`{"error":"no such function","code":"NOT_FOUND","details":{}}`, Response{Error: "no such function"}},
		{`{"success":true,"result":[],"execution_ms":1.5e2,"memory_used_mb":12.1}`,
			Response{Success: true, ExecutionMS: 150, MemoryUsedMB: 13}},
	} {
		got := Response{JobID: 99, Result: []byte{9, 9, 9, 9}, Error: "old", ExecutionMS: 9, MemoryUsedMB: 9}
		if err := ParseResponse([]byte(tt.text), &got); err != nil {
			t.Errorf("ParseResponse(%s): %v", tt.text, err)
			continue
		}
		if diff := cmp.Diff(tt.want, got, cmp.Comparer(bytes.Equal)); diff != "" {
			t.Errorf("ParseResponse(%s): %s", tt.text, diff)
		}
	}
}

func TestParseResponseRefusesEverythingElse(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{``, `the text ends where a JSON object should be (at byte 0)`},
		{`{}`, `the answer has neither result nor success nor error`},
		{`{"job_id":1}`, `the answer has neither result nor success nor error`},
		{`{"success":true}`, `the answer says success and has no result`},
		{`{"job_id":1,"success":true,"execution_ms":3,"error":null}`, `the answer says success and has no result`},
		{`{"success":null,"error":null}`, `the answer has neither result nor success nor error`},
		{`{"result":"AQI="}`, `result: "\"" where a list of bytes should be (at byte 10)`},
		{`{"result":[1,300]}`, `result[1]: 300 is not an integer from 0 to 255 (at byte 13)`},
		{`{"result":[1],"success":"true"}`, `success: "\"" where true or false should be (at byte 24)`},
		{`{"result":[1],"success":1}`, `success: "1" where true or false should be (at byte 24)`},
		{`{"result":[1],"error":5}`, `error: "5" where a string should be (at byte 22)`},
		{`{"result":[1],"execution_ms":-1}`, `execution_ms: -1 is not between 0 and 1.7976931348623157e+308 (at byte 29)`},
		{`{"result":[1],"execution_ms":1e999}`,
			`execution_ms: 1e999 is not between 0 and 1.7976931348623157e+308 (at byte 29)`},
		{`{"result":[1],"execution_ms":"1"}`, `execution_ms: "\"" where a number should be (at byte 29)`},
		{`{"result":[1],"memory_used_mb":4294967296}`,
			`memory_used_mb: 4294967296 is not between 0 and 4.294967295e+09 (at byte 31)`},
		{`{"result":[1],"result":[1]}`, `result: the member is there twice (at byte 23)`},
		{`{"result":null,"result":[1]}`, `result: the member is there twice (at byte 24)`},
		{`{"result":[1]} {}`, `"{" where the end of the text should be (at byte 15)`},
		{"{\"result\":[1]}\nlog line", `"l" where the end of the text should be (at byte 15)`},
	} {
		buffer := make([]byte, 3, 64)
		r := Response{JobID: 99, Result: buffer, Success: true, Error: "old"}
		err := ParseResponse([]byte(tt.text), &r)
		if err == nil {
			t.Errorf("ParseResponse(%s) succeeded: %+v", tt.text, r)
			continue
		}
		if got, want := err.Error(), "faas: read response: "+tt.want; got != want || !errors.Is(err, ErrInvalidArgument) {
			t.Errorf("ParseResponse(%s)\n got %s\nwant %s", tt.text, got, want)
		}
		if diff := cmp.Diff(Response{Result: []byte{}}, r); diff != "" || cap(r.Result) != 64 {
			t.Errorf("ParseResponse(%s) left something behind: %s", tt.text, diff)
		}
	}
}

func TestPayloadCodecAllocatesNothingWithTheCallersBuffer(t *testing.T) {
	args := randomBytes(10_000)
	request := AppendRequest(nil, 7, args)
	odd := []byte(`{ "x" : {"y":["\u0041",1.5,null,true]}, "args":[1, 2 ,3] , "job_id" : 4 }`)
	response := AppendResponse(nil, &Response{JobID: 7, Result: args, Success: true, ExecutionMS: 1.5, MemoryUsedMB: 3})
	text := make([]byte, 0, MaxResponseSize(len(args)))
	buffer := make([]byte, 0, len(args))
	r := Response{Result: buffer}
	for name, f := range map[string]func(){
		"AppendRequest":                     func() { AppendRequest(text, 7, args) },
		"ParseRequest":                      func() { ParseRequest(buffer, request) },
		"ParseRequest with unknown members": func() { ParseRequest(buffer, odd) },
		"AppendResponse": func() {
			AppendResponse(text, &Response{JobID: 7, Result: args, Success: true, ExecutionMS: 1.5})
		},
		"AppendResponse without the success": func() { AppendResponse(text, &Response{Error: "\x01"}) },
		"ParseResponse":                      func() { ParseResponse(response, &r) },
	} {
		if n := testing.AllocsPerRun(20, f); n != 0 {
			t.Errorf("%s makes %v allocations", name, n)
		}
	}
}

func TestMaxSizesBoundWhatIsAppended(t *testing.T) {
	for _, n := range []int{0, 1, 100} {
		full := bytes.Repeat([]byte{255}, n)
		if got := len(AppendRequest(nil, math.MaxUint32, full)); got > MaxRequestSize(n) {
			t.Errorf("a request of %d bytes is %d long, MaxRequestSize says %d", n, got, MaxRequestSize(n))
		}
		for _, ms := range []float64{5e-324, math.MaxFloat64, 0.000001234567890123456, 123456789012345.67,
			1.2345678901234567e-300} {
			r := Response{JobID: math.MaxUint32, Result: full, Success: true, ExecutionMS: ms, MemoryUsedMB: math.MaxUint32}
			if got := len(AppendResponse(nil, &r)); got > MaxResponseSize(n) {
				t.Errorf("a response of %d bytes and %v ms is %d long, MaxResponseSize says %d", n, ms, got, MaxResponseSize(n))
			}
		}
	}
}

func TestTheCompactFormIsExact(t *testing.T) {
	for _, tt := range []struct {
		job  uint32
		args []byte
		want string
	}{
		{0, nil, `{"job_id":0,"args":{"base64":""}}`},
		{7, []byte{0}, `{"job_id":7,"args":{"base64":"AA=="}}`},
		{math.MaxUint32, []byte{251, 239, 255}, `{"job_id":4294967295,"args":{"base64":"++//"}}`},
	} {
		text := AppendCompactRequest([]byte("before"), tt.job, tt.args)
		if string(text) != "before"+tt.want {
			t.Errorf("AppendCompactRequest(%d, %v) = %s, want %s", tt.job, tt.args, text, tt.want)
		}
		job, args, compact, err := ParseAnyRequest([]byte("ab"), text[len("before"):])
		if err != nil || job != tt.job || !compact || string(args) != "ab"+string(tt.args) {
			t.Errorf("ParseAnyRequest(%s) = %d, %v, %v, %v", text, job, args, compact, err)
		}
	}
	answer := string(AppendResponse(nil, &Response{JobID: 2, Result: []byte{1, 2, 3}, Success: true, Compact: true}))
	want := `{"job_id":2,"result":{"base64":"AQID"},"success":true,"execution_ms":0,"memory_used_mb":0}`
	if answer != want {
		t.Errorf("AppendResponse = %s, want %s", answer, want)
	}
}

func TestSizesAreThoseOfWhatIsAppended(t *testing.T) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for _, job := range []uint32{0, 9, 10, 99, 100, 999_999_999, 1_000_000_000, math.MaxUint32} {
		for n := range len(all) + 1 {
			args := all[:n]
			if got, want := RequestSize(job, args), len(AppendRequest(nil, job, args)); got != want {
				t.Fatalf("RequestSize(%d, %d bytes) = %d, want %d", job, n, got, want)
			}
			if got, want := CompactRequestSize(job, n), len(AppendCompactRequest(nil, job, args)); got != want {
				t.Fatalf("CompactRequestSize(%d, %d) = %d, want %d", job, n, got, want)
			}
		}
	}
}

// Programs built before the compact form existed read requests as ParseRequest does.
func TestThePublishedFormKnowsNoOther(t *testing.T) {
	_, _, err := ParseRequest(nil, AppendCompactRequest(nil, 1, []byte("x")))
	if want := `args: "{" where a list of bytes should be`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}
