package bls

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// ask sends a request as text, and returns the status and the answer.
func ask(s *Service, verb string, body string) (int, string) {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/tasks/"+verb, strings.NewReader(body)))
	return w.Code, strings.TrimSpace(w.Body.String())
}

func text(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var task1 = taskID{2, 7}

func initOf(output string) initRequest {
	return initRequest{taskID: task1, Operators: 3, Threshold: threshold{Type: byCount, Signers: 2},
		Output: []byte(output), Message: []byte("m"), Scheme: scheme}
}

func signatureOf(t testing.TB, i int, output string) submitRequest {
	k := secret(t, i)
	key, sig := k.public.Bytes(), k.Sign([]byte("m")).Bytes()
	return submitRequest{taskID: task1, Operator: uint32(i), Output: []byte(output), Signature: sig[:], Key: key[:]}
}

// The names are those of the ecosystem's service.
func TestTheProtocol(t *testing.T) {
	s := NewService()
	key, sig := secret(t, 1).public.Bytes(), secret(t, 1).Sign([]byte("m")).Bytes()
	step := func(verb, body string, status int, want string) {
		t.Helper()
		if got, answer := ask(s, verb, body); got != status || answer != want {
			t.Errorf("%s: %d %s; want %d %s", verb, got, answer, status, want)
		}
	}
	const id = `{"service_id":2,"call_id":7}`
	step("status", id, 200, `{"exists":false,"signatures_collected":0,"threshold_required":0,"threshold_met":false,`+
		`"signer_bitmap":"0x0","submitted":false}`)
	step("aggregate", id, 404, `null`)
	step("mark-submitted", id, 400, `{"success":false,"error":"there is no such task"}`)
	step("init", `{"service_id":2,"call_id":7,"operator_count":3,"threshold":{"type":"count","required_signers":1},`+
		`"output":"0xaa","message":"6d","signature_scheme":"tangle_keccak256"}`, 200, `{"success":true}`)
	step("submit", `{"service_id":2,"call_id":7,"operator_index":1,"output":"0xaa","signature":`+text(t, hexBytes(sig[:]))+
		`,"public_key":`+text(t, hexBytes(key[:]))+`}`, 200,
		`{"accepted":true,"signatures_collected":1,"threshold_required":1,"threshold_met":true}`)
	step("aggregate", id, 200, `{"service_id":2,"call_id":7,"output":"0xaa",`+
		`"signer_bitmap":"0x2","non_signer_indices":[0,2],`+
		`"aggregated_signature":`+text(t, hexBytes(sig[:]))+`,"aggregated_pubkey":`+text(t, hexBytes(key[:]))+`}`)
	step("mark-submitted", id, 200, `{"success":true}`)
	step("aggregate", id, 404, `null`)
	_, answer := ask(s, "status", id)
	if !strings.Contains(answer, `"submitted":true,"is_expired":false,"time_remaining_secs":3`) {
		t.Errorf("status: %s", answer)
	}
	step("init", text(t, initOf("x")), 200, `{"success":false,"error":"a result was submitted already"}`)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/health", nil))
	if w.Code != 200 || w.Body.String() != "ok" {
		t.Errorf("health: %d %s", w.Code, w.Body)
	}
}

func TestTheServiceRefuses(t *testing.T) {
	s := NewService()
	for want, change := range map[string]func(q *initRequest){
		"only signatures of scheme tangle_keccak256 are collected": func(q *initRequest) { q.Scheme = "arkworks_sha256" },
		"0 operators are not between 1 and 256":                    func(q *initRequest) { q.Operators = 0 },
		"257 operators are not between 1 and 256":                  func(q *initRequest) { q.Operators = 257 },
		"a message of 0 bytes is not between 1 and 1024":           func(q *initRequest) { q.Message = nil },
		"0 signers of 3 operators":                                 func(q *initRequest) { q.Threshold.Signers = 0 },
		"4 signers of 3 operators":                                 func(q *initRequest) { q.Threshold.Signers = 4 },
		"the threshold is of no known type":                        func(q *initRequest) { q.Threshold.Type = "" },
		"the weight of operator 3 is out of range": func(q *initRequest) {
			q.Threshold = threshold{Type: byWeight, BPS: 1, Weights: []weight{{3, 1}}}
		},
		"the weight of operator 1 is out of range": func(q *initRequest) {
			q.Threshold = threshold{Type: byWeight, BPS: 1, Weights: []weight{{1, 1<<64 - 1}}}
		},
		"a part of the weights is not between 1 and 10000, or there are too many weights": func(q *initRequest) {
			q.Threshold = threshold{Type: byWeight, BPS: 10_001}
		},
	} {
		q := initOf("x")
		change(&q)
		if _, answer := ask(s, "init", text(t, q)); answer != text(t, initAnswer{Error: want}) {
			t.Errorf("init: %s; want %s", answer, want)
		}
	}
	for i, output := range []string{"a", "b", "c", "d"} {
		if _, answer := ask(s, "init", text(t, initOf(output))); answer != `{"success":true}` {
			t.Errorf("output %d: %s", i, answer)
		}
	}
	for output, want := range map[string]string{"a": "the task exists already", "e": "the task has 4 outputs already"} {
		if _, answer := ask(s, "init", text(t, initOf(output))); answer != text(t, initAnswer{Error: want}) {
			t.Errorf("output %s: %s; want %s", output, answer, want)
		}
	}
	for want, change := range map[string]func(q *submitRequest){
		"there is no such task":                              func(q *submitRequest) { q.Call++ },
		"there is no operator 3":                             func(q *submitRequest) { q.Operator = 3 },
		"there is no operator 4294967295":                    func(q *submitRequest) { q.Operator = 1<<32 - 1 },
		"the output is none of the task's":                   func(q *submitRequest) { q.Output = []byte("z") },
		"bls: 0 bytes are no public key: it needs 64 or 128": func(q *submitRequest) { q.Key = nil },
		"bls: 1 bytes are no signature: it needs 32 or 64":   func(q *submitRequest) { q.Signature = []byte{1} },
		"the signature is not that of the key and the message": func(q *submitRequest) {
			sig := secret(t, 0).Sign([]byte("other")).Bytes()
			q.Signature = sig[:]
		},
	} {
		q := signatureOf(t, 0, "a")
		change(&q)
		if status, answer := ask(s, "submit", text(t, q)); status != 400 || answer != text(t, submitAnswer{Error: want}) {
			t.Errorf("submit: %s; want %s", answer, want)
		}
	}
	if status, answer := ask(s, "submit", text(t, signatureOf(t, 0, "a"))); status != 200 {
		t.Errorf("a good signature: %s", answer)
	}
	_, answer := ask(s, "submit", text(t, signatureOf(t, 0, "a")))
	if answer != text(t, submitAnswer{Error: "the operator signed already"}) {
		t.Errorf("a second signature: %s", answer)
	}
	for _, body := range []string{"", "[]", `{"service_id":-1}`, `{"output":"0xz"}`, strings.Repeat("[", 1<<21)} {
		for _, verb := range []string{"init", "submit"} {
			if status, answer := ask(s, verb, body); status != 400 {
				t.Errorf("%s of %.20q: %d %s", verb, body, status, answer)
			}
		}
	}
}

// The same signature may come twice at the same time.
func TestASignatureCountsOnce(t *testing.T) {
	s := NewService()
	ask(s, "init", text(t, initOf("a")))
	body := text(t, signatureOf(t, 1, "a"))
	statuses := make(chan int)
	const times = 8
	for range times {
		go func() {
			status, _ := ask(s, "submit", body)
			statuses <- status
		}()
	}
	accepted := 0
	for range times {
		if <-statuses == http.StatusOK {
			accepted++
		}
	}
	_, answer := ask(s, "status", text(t, task1))
	if accepted != 1 || !strings.Contains(answer, `"signatures_collected":1,`) {
		t.Errorf("accepted %d times: %s", accepted, answer)
	}
}

func TestTheServiceKnowsItsMembers(t *testing.T) {
	var keys []PublicKey
	var trouble error
	s := NewService(WithMembers(func(_ context.Context, service uint64) ([]PublicKey, error) {
		if service != task1.Service {
			t.Errorf("the keys of service %d are asked for", service)
		}
		return keys, trouble
	}))
	ask(s, "init", text(t, initOf("a")))
	for want, change := range map[string]func(){
		"the key is not that of operator 1":  func() { keys = []PublicKey{secret(t, 0).public, secret(t, 2).public} },
		"the operators' keys cannot be read": func() { trouble = errors.New("secret") },
	} {
		trouble = nil
		change()
		if _, answer := ask(s, "submit", text(t, signatureOf(t, 1, "a"))); answer != text(t, submitAnswer{Error: want}) {
			t.Errorf("submit: %s; want %s", answer, want)
		}
	}
	keys, trouble = []PublicKey{{}, secret(t, 1).public}, nil
	if status, answer := ask(s, "submit", text(t, signatureOf(t, 1, "a"))); status != 200 {
		t.Errorf("of a member: %s", answer)
	}
}

func TestTheServiceHoldsOnlySoMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewService()
		full := func() bool {
			for call := range uint64(1000) {
				q := initOf("")
				q.Call, q.Output = call, make([]byte, 200_000)
				if err := s.add(&q); err != nil {
					if err.Error() != "there is no room for another task" || s.size > maxHeld {
						t.Errorf("%v, with %d bytes", err, s.size)
					}
					return true
				}
			}
			return false
		}
		if !full() {
			t.Error("200 MB are held")
		}
		time.Sleep(keep + time.Second)
		if got, _ := ask(s, "status", text(t, taskID{2, 1})); got != 200 || s.find(taskID{2, 1}) != nil {
			t.Error("an old task is known")
		}
		if !full() || len(s.tasks) < 100 {
			t.Errorf("%d tasks are held after an hour", len(s.tasks))
		}
	})
}

func TestBitmap(t *testing.T) {
	var b bitmap
	for _, i := range []int{0, 7, 8, 255} {
		b.add(i)
	}
	if got := b.members(); !slices.Equal(got, []int{0, 7, 8, 255}) {
		t.Errorf("the members are %v", got)
	}
	digits := text(t, b)
	if want := `"0x8` + strings.Repeat("0", 60) + `181"`; digits != want {
		t.Errorf("as JSON: %s; want %s", digits, want)
	}
	var again bitmap
	if err := json.Unmarshal([]byte(digits), &again); err != nil || again != b {
		t.Errorf("%v becomes %v, %v", b, again, err)
	}
}

// FuzzService sends anything to each verb, after a task was made.
func FuzzService(f *testing.F) {
	f.Add("init", []byte(text(f, initOf("b"))))
	f.Add("submit", []byte(text(f, signatureOf(f, 0, "a"))))
	f.Add("aggregate", []byte(text(f, task1)))
	f.Add("status", []byte(text(f, task1)))
	f.Add("mark-submitted", []byte(text(f, task1)))
	f.Fuzz(func(t *testing.T, verb string, body []byte) {
		if !slices.Contains([]string{"init", "submit", "aggregate", "status", "mark-submitted"}, verb) {
			return
		}
		s := NewService()
		ask(s, "init", text(t, initOf("a")))
		status, answer := ask(s, verb, string(body))
		if status != 200 && status != 400 && status != 404 {
			t.Errorf("%s: %d %s", verb, status, answer)
		}
		if s.size > taskSize*4+2*len(body)+1<<20 {
			t.Errorf("%d bytes are held for %d", s.size, len(body))
		}
		if bytes.Contains(body, []byte("call_id")) && status == 200 {
			ask(s, "status", string(body))
			ask(s, "aggregate", string(body))
		}
	})
}
