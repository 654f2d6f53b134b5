package bls

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tangle-network/blueprint-serverless/runner"
	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
)

// ledger is the part of the contract that judges aggregated results, for calls of service 2.
type ledger struct {
	operators [][20]byte
	keys      []PublicKey // as they were registered
	weights   []uint16
	bps       int
	byStake   bool

	mu        sync.Mutex
	completed map[uint64][]byte // outputs, by call
	sent      int
}

// secret returns the key of operator i.
func secret(t testing.TB, i int) Key {
	t.Helper()
	k, err := NewKey([32]byte{0: 1, 31: byte(i)})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newLedger(t *testing.T, n, bps int) *ledger {
	l := &ledger{bps: bps, completed: map[uint64][]byte{}}
	for i := range n {
		l.operators = append(l.operators, [20]byte{19: byte(i + 1)})
		l.keys = append(l.keys, secret(t, i).public)
		l.weights = append(l.weights, 10_000)
	}
	return l
}

func (l *ledger) call(id uint64, operator int, output string) runner.AggregateCall {
	return runner.AggregateCall{
		ChainID: chainID, Contract: tangleContract, Service: 2, Call: id, Operator: l.operators[operator],
		Operators: l.operators, ThresholdBPS: uint16(l.bps), ByStake: l.byStake, Output: []byte(output),
		Read:      l.read,
		Completed: func(context.Context) (bool, error) { return l.done(id), nil },
		Submit:    func(_ context.Context, data []byte) error { return l.submit(data) },
	}
}

func (l *ledger) done(id uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.completed[id] != nil
}

func (l *ledger) read(_ context.Context, data []byte) ([]byte, error) {
	i := int(data[4+2*32-1]) - 1
	switch binary.BigEndian.Uint32(data) {
	case getOperatorBlsPubkey:
		if l.keys[i].point.IsInfinity() {
			return make([]byte, 4*32), nil
		}
		return join(l.keys[i].Words()), nil
	case getServiceOperator:
		return abi{}.number(uint64(l.weights[i])).number(1).number(0).number(1), nil
	}
	return nil, errors.New("no such function")
}

func (l *ledger) submit(data []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	word := func(i int) []byte { return data[4+32*i : 4+32*i+32] }
	id := binary.BigEndian.Uint64(word(1)[24:])
	output := data[4+11*32:][:binary.BigEndian.Uint64(word(10)[24:])]
	signers := bitmap(word(3))
	if l.completed[id] != nil {
		return &chain.Revert{Selector: 0x0a55512f}
	}
	signed, total := 0, 0
	var keys []PublicKey
	for i := range l.operators {
		weight := 1
		if l.byStake {
			weight = int(l.weights[i])
		}
		total += weight
		if signers.has(i) {
			signed += weight
			keys = append(keys, l.keys[i])
		}
	}
	if signed*10_000 < total*l.bps {
		return &chain.Revert{Selector: thresholdNotMet}
	}
	sum, err := AddKeys(keys...)
	if err != nil {
		return err
	}
	key, err := ParsePublicKey(data[4+6*32 : 4+10*32])
	if err != nil || key != sum {
		return &chain.Revert{Selector: 0x437f07c7}
	}
	sig, err := ParseSignature(data[4+4*32 : 4+6*32])
	if err != nil || !Verify(sum, resultMessage(chainID, tangleContract, 2, id, l.operators, output), sig) {
		return &chain.Revert{Selector: 0xab1b236b}
	}
	l.completed[id] = output
	l.sent++
	return nil
}

// direct gives requests to a handler without a network.
type direct struct{ handler http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	d.handler.ServeHTTP(w, r)
	return w.Result(), nil
}

func aggregator(t testing.TB, key Key, h http.Handler) *Aggregator {
	t.Helper()
	a, err := New(key, "http://user:word@service:1/base?token=hush", WithHTTPClient(&http.Client{Transport: direct{h}}))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// base serves a handler below a path.
func base(h http.Handler) http.Handler { return http.StripPrefix("/base", h) }

func TestOperatorsBringAResultOnChain(t *testing.T) {
	for name, tt := range map[string]struct {
		operators, bps int
		weights        []uint16
		present        []int          // operators that run
		outputs        map[int]string // that differ
		within         time.Duration
		signers        int
	}{
		"all of three":              {operators: 3, bps: 10_000, present: []int{0, 1, 2}},
		"two of three":              {operators: 3, bps: 6_600, present: []int{0, 1, 2}},
		"one is away":               {operators: 3, bps: 6_600, present: []int{0, 2}},
		"the first in turn is away": {operators: 3, bps: 6_600, present: []int{1, 2}},
		"one has another output":    {operators: 3, bps: 6_600, present: []int{0, 1, 2}, outputs: map[int]string{0: "wrong"}},
		"by weight":                 {operators: 3, bps: 5_000, weights: []uint16{100, 100, 300}, present: []int{2}},
		"by weight, the light ones": {operators: 3, bps: 4_000, weights: []uint16{100, 100, 300}, present: []int{0, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLedger(t, tt.operators, tt.bps)
				if tt.weights != nil {
					l.weights, l.byStake = tt.weights, true
				}
				service := NewService()
				results := make(chan error)
				for _, i := range tt.present {
					output := "right"
					if o := tt.outputs[i]; o != "" {
						output = o
					}
					a := aggregator(t, secret(t, i), base(service))
					go func() { results <- a.Aggregate(t.Context(), l.call(7, i, output)) }()
				}
				for range tt.present {
					if err := <-results; err != nil {
						t.Error(err)
					}
				}
				if string(l.completed[7]) != "right" || l.sent != 1 {
					t.Errorf("%q is on chain, after %d transactions", l.completed[7], l.sent)
				}
			})
		})
	}
}

// An aggregation service that was started again has forgotten all.
func TestTheServiceForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(t, 2, 10_000)
		var mu sync.Mutex
		service := NewService()
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			s := service
			mu.Unlock()
			s.ServeHTTP(w, r)
		})
		results := make(chan error)
		for i := range 2 {
			a := aggregator(t, secret(t, i), base(h))
			go func() {
				time.Sleep(time.Duration(i) * time.Minute)
				results <- a.Aggregate(t.Context(), l.call(7, i, "right"))
			}()
		}
		time.Sleep(30 * time.Second)
		mu.Lock()
		service = NewService()
		mu.Unlock()
		for range 2 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestAnOperatorThatStaysAloneGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(t, 3, 6_700)
		began := time.Now()
		service, failed := base(NewService()), false
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/aggregate") && !failed {
				failed = true
				w.WriteHeader(http.StatusBadGateway) // which is forgotten in the end
				return
			}
			service.ServeHTTP(w, r)
		})
		err := aggregator(t, secret(t, 0), h).Aggregate(t.Context(), l.call(7, 0, "right"))
		const want = "bls: the result of call 7 of service 2: the time to collect signatures is over after 10m0s: " +
			"1 signatures are collected, and 3 are needed"
		if err == nil || err.Error() != want || time.Since(began) != 10*time.Minute {
			t.Errorf("%v, after %v; want %s", err, time.Since(began), want)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err = aggregator(t, secret(t, 1), base(NewService())).Aggregate(ctx, l.call(8, 1, "right"))
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after its context ended: %v", err)
		}
	})
}

// The service has the signature that an earlier process of this operator handed in.
func TestAnOperatorThatWasStartedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(t, 3, 6_700)
		service := base(NewService())
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := aggregator(t, secret(t, 0), service).Aggregate(ctx, l.call(7, 0, "right")); err == nil {
			t.Error("alone it is done")
		}
		err := aggregator(t, secret(t, 0), service).Aggregate(t.Context(), l.call(7, 0, "right"))
		if err == nil || !strings.HasSuffix(err.Error(), ": 1 signatures are collected, and 3 are needed") {
			t.Errorf("started again: %v", err)
		}
	})
}

// A node that is away for a while keeps no result from being submitted.
func TestKeysThatCannotBeReadAreReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(t, 2, 10_000)
		service := base(NewService())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := aggregator(t, secret(t, 1), service).Aggregate(ctx, l.call(7, 1, "right")); err == nil {
			t.Error("alone it is done")
		}
		call, back := l.call(7, 0, "right"), time.Now().Add(time.Minute)
		call.Read = func(ctx context.Context, data []byte) ([]byte, error) {
			if data[len(data)-1] == 2 && time.Now().Before(back) {
				return nil, errors.New("no node")
			}
			return l.read(ctx, data)
		}
		if err := aggregator(t, secret(t, 0), service).Aggregate(t.Context(), call); err != nil || l.sent != 1 {
			t.Errorf("%v, after %d transactions", err, l.sent)
		}
	})
}

func TestItsTurnDoesNotCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(t, 2, 5_000)
		service := base(NewService())
		a := aggregator(t, secret(t, 0), service)
		a.turn = time.Hour // and operator 1, who is the first in turn, submits nothing
		idle := l.call(7, 1, "right")
		idle.Submit = func(context.Context, []byte) error { return errors.New("no gas") }
		if err := aggregator(t, secret(t, 1), service).Aggregate(t.Context(), idle); err == nil {
			t.Error("without gas it is done")
		}
		err := a.Aggregate(t.Context(), l.call(7, 0, "right"))
		if err == nil || !strings.HasSuffix(err.Error(), "it is another operator's turn to submit them") {
			t.Errorf("out of turn: %v", err)
		}
	})
}

// An output is long: it is not sent again every two seconds.
func TestARefusedOperatorIsPatient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(t, 3, 6_700)
		sent := 0
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/base/v1/tasks/submit":
				sent++
				w.WriteHeader(http.StatusBadRequest)
				_, _ = io.WriteString(w, `{"accepted":false,"error":"no\u001b"}`)
			case "/base/v1/tasks/aggregate":
				w.WriteHeader(http.StatusNotFound)
			default:
				_, _ = io.WriteString(w, `{"success":true,"exists":true}`)
			}
		})
		err := aggregator(t, secret(t, 0), h).Aggregate(t.Context(), l.call(7, 0, "right"))
		const want = ": the aggregation service refuses this operator's signature: no\uFFFD"
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Error(err)
		}
		if sent < 10 || sent > 30 {
			t.Errorf("the signature was sent %d times in 10 minutes", sent)
		}
	})
}

// The service's threshold was too low, whoever set it.
func TestASumThatIsNotEnoughWaitsForMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(t, 2, 10_000)
		service := NewService()
		low := l.call(7, 0, "right")
		low.ThresholdBPS = 1
		results := make(chan error)
		go func() { results <- aggregator(t, secret(t, 0), base(service)).Aggregate(t.Context(), low) }()
		time.Sleep(time.Minute)
		go func() {
			results <- aggregator(t, secret(t, 1), base(service)).Aggregate(t.Context(), l.call(7, 1, "right"))
		}()
		for range 2 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestAggregateRefusesAtOnce(t *testing.T) {
	l := newLedger(t, 2, 10_000)
	a := aggregator(t, secret(t, 0), http.NotFoundHandler())
	strange := l.call(7, 0, "right")
	strange.Operator = [20]byte{1}
	l.keys[1] = PublicKey{}
	none := l.call(7, 1, "right")
	broken := l.call(7, 0, "right")
	broken.Read = func(context.Context, []byte) ([]byte, error) { return nil, errors.New("no node") }
	reverted := l.call(7, 0, "right")
	reverted.Submit = func(context.Context, []byte) error { return &chain.Revert{Selector: 0x4c5fe2d8} }
	for _, tt := range []struct {
		want string
		call runner.AggregateCall
	}{
		{"the operator 0x0100000000000000000000000000000000000000 is none of the service's 2", strange},
		{"the operator 0x0000000000000000000000000000000000000002 approved the service without a BLS key that can be used: " +
			"bls: 128 bytes are no public key: it is zero", none},
		{"no node tells the registered BLS key of 0x0000000000000000000000000000000000000001: no node", broken},
	} {
		err := a.Aggregate(t.Context(), tt.call)
		if want := "bls: the result of call 7 of service 2: " + tt.want; err == nil || err.Error() != want {
			t.Errorf("%v; want %s", err, want)
		}
	}
	l.keys[1] = secret(t, 5).public
	err := a.Aggregate(t.Context(), l.call(7, 1, "right"))
	if want := "registered the BLS key " + secret(t, 5).public.String() + " for the service, and the runner has " +
		secret(t, 0).public.String(); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("with another key than the registered: %v", err)
	}
	// What the contract refuses for good is the runner's to judge.
	l = newLedger(t, 1, 1)
	service := NewService()
	reverted.Operators, reverted.Read, reverted.ThresholdBPS = l.operators, l.read, 1
	err = aggregator(t, secret(t, 0), base(service)).Aggregate(t.Context(), reverted)
	if e, ok := errors.AsType[*chain.Revert](err); !ok || e.Selector != 0x4c5fe2d8 {
		t.Errorf("of a service that ended: %v", err)
	}
}

// Whatever the aggregation service says, nothing is submitted that the contract would refuse.
func TestAHostileServiceIsNotBelieved(t *testing.T) {
	l := newLedger(t, 2, 10_000)
	message := resultMessage(chainID, tangleContract, 2, 7, l.operators, []byte("right"))
	one, two := secret(t, 0).Sign(message), secret(t, 1).Sign(message)
	sum, err := AddSignatures(one, two)
	if err != nil {
		t.Fatal(err)
	}
	good, single := sum.Bytes(), one.Bytes()
	answer := func(output, signers string, sig []byte) string {
		return fmt.Sprintf(`{"service_id":2,"call_id":7,"output":"0x%x","signer_bitmap":"%s","non_signer_indices":[],`+
			`"aggregated_signature":"0x%x","aggregated_pubkey":"0x"}`, output, signers, sig)
	}
	for name, tt := range map[string]struct {
		status     int
		body, want string
	}{
		"another output":  {200, answer("wrong", "0x3", good[:]), "others signed another output than this operator's"},
		"too few":         {200, answer("right", "0x1", good[:]), "does not fit the keys that the operators registered"},
		"one signature":   {200, answer("right", "0x3", single[:]), "does not fit the keys that the operators registered"},
		"an operator 200": {200, answer("right", "0x1"+strings.Repeat("0", 50), good[:]), "the sum names operator 200 of 2"},
		"nobody":          {200, answer("right", "0x0", good[:]), "the sum of the keys is zero"},
		"no point":        {200, answer("right", "0x3", append(make([]byte, 31), 1)), "32 bytes are no signature"},
		"zero":            {200, answer("right", "0x3", append(make([]byte, 31), 0x40)), "no signature: it is zero"},
		"no bitmap":       {200, answer("right", "3", good[:]), "the answer cannot be read"},
		"a long bitmap":   {200, answer("right", "0x"+strings.Repeat("f", 65), good[:]), "the answer cannot be read"},
		"no JSON":         {200, "<html>", "the answer cannot be read"},
		"a long answer":   {200, strings.Repeat(" ", 2<<20), "the answer is longer than 1048576 bytes"},
		"a redirection":   {302, "", "status 302"},
		"an error":        {500, "", "status 500"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					switch r.URL.Path {
					case "/base/v1/tasks/aggregate":
						w.Header().Set("Location", "http://elsewhere/")
						w.WriteHeader(tt.status)
						_, _ = io.WriteString(w, tt.body)
					default:
						_, _ = io.WriteString(w, `{"success":true,"accepted":true,"exists":true}`)
					}
				})
				call := l.call(7, 0, "right")
				call.Submit = func(context.Context, []byte) error {
					t.Error("something is submitted")
					return nil
				}
				err := aggregator(t, secret(t, 0), h).Aggregate(t.Context(), call)
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%v; want %s", err, tt.want)
				}
				if err != nil && (strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), "word")) {
					t.Errorf("the error tells a secret: %v", err)
				}
			})
		})
	}
}

func TestNewRefuses(t *testing.T) {
	for _, address := range []string{"", "service", "ftp://service", "http://", "http://a b:secret@x/\x00"} {
		if _, err := New(secret(t, 0), address); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("New(%q): %v", address, err)
		}
	}
	if _, err := New(Key{}, "http://service"); err == nil {
		t.Error("there is no key, and no error")
	}
	if _, err := New(secret(t, 0), "http://service", WithPoll(0)); err == nil {
		t.Error("a poll without a pause is accepted")
	}
	if _, err := New(secret(t, 0), "http://service", WithTimeout(0), WithTurn(time.Second)); err == nil {
		t.Error("no time is accepted")
	}
}
