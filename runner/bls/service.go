package bls

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"time"
)

// Service is an aggregation service for a few operators, an [http.Handler]. It keeps everything in
// memory, at most 64 MiB, and forgets a result after an hour: operators hand in their signatures
// again. It is safe for concurrent use.
//
// It checks each signature, but unless it is told the operators' keys ([WithMembers]) it cannot
// tell whether a key is the operator's. Whoever reaches it can then take an operator's place and
// keep results from being collected; so let only the operators reach it. He cannot make the
// contract accept anything.
type Service struct {
	mux     *http.ServeMux
	members func(ctx context.Context, service uint64) ([]PublicKey, error)
	checks  chan struct{} // has room for the signatures that are being checked

	mu    sync.Mutex
	tasks map[taskID]*task
	size  int // bytes, about
}

// task is a call of a job. Operators may disagree on its output.
type task struct {
	made       time.Time
	operators  int
	candidates []*candidate
	submitted  bool
	size       int
}

// candidate is what some operators say that the output is.
type candidate struct {
	output, message []byte
	threshold       threshold
	signers         bitmap
	signatures      []Signature
	keys            []PublicKey
}

// The bounds of a service.
const (
	maxHeld       = 64 << 20 // bytes
	keep          = time.Hour
	maxCandidates = 4
	maxMessage    = 1 << 10
	maxOperators  = 256
	signatureSize = 512 // in memory, about
	taskSize      = 1 << 10
)

// ServiceOption changes how a [Service] works.
type ServiceOption func(*Service)

// WithMembers tells a service the keys that the operators of a service registered, in the
// contract's order. It then refuses others.
func WithMembers(keys func(ctx context.Context, service uint64) ([]PublicKey, error)) ServiceOption {
	return func(s *Service) { s.members = keys }
}

// NewService makes an aggregation service.
func NewService(opts ...ServiceOption) *Service {
	s := &Service{
		mux: http.NewServeMux(), checks: make(chan struct{}, runtime.GOMAXPROCS(0)), tasks: map[taskID]*task{},
	}
	for _, opt := range opts {
		opt(s)
	}
	s.mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) })
	s.mux.HandleFunc("POST /v1/tasks/init", handle(s.init))
	s.mux.HandleFunc("POST /v1/tasks/submit", handle(s.submit))
	s.mux.HandleFunc("POST /v1/tasks/status", handle(s.status))
	s.mux.HandleFunc("POST /v1/tasks/aggregate", handle(s.aggregate))
	s.mux.HandleFunc("POST /v1/tasks/mark-submitted", handle(s.markSubmitted))
	return s
}

// ServeHTTP answers operators.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// handle makes a handler of a function that returns a status and an answer.
func handle[Q any](f func(ctx context.Context, q *Q) (int, any)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var q Q
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&q); err != nil {
			http.Error(w, "the request cannot be read", http.StatusBadRequest)
			return
		}
		status, answer := f(r.Context(), &q)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(answer)
	}
}

func (s *Service) init(_ context.Context, q *initRequest) (int, any) {
	if err := s.add(q); err != nil {
		return http.StatusOK, initAnswer{Error: err.Error()}
	}
	return http.StatusOK, initAnswer{Success: true}
}

func (s *Service) add(q *initRequest) error {
	switch {
	case q.Scheme != scheme:
		return fmt.Errorf("only signatures of scheme %s are collected", scheme)
	case q.Operators == 0 || q.Operators > maxOperators:
		return fmt.Errorf("%d operators are not between 1 and %d", q.Operators, maxOperators)
	case len(q.Message) == 0 || len(q.Message) > maxMessage:
		return fmt.Errorf("a message of %d bytes is not between 1 and %d", len(q.Message), maxMessage)
	}
	if err := q.Threshold.validate(q.Operators); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget()
	t := s.tasks[q.taskID]
	if t == nil {
		t = &task{made: time.Now(), operators: int(q.Operators)}
	}
	for _, c := range t.candidates {
		if bytes.Equal(c.output, q.Output) && bytes.Equal(c.message, q.Message) {
			return errors.New("the task exists already")
		}
	}
	size := taskSize + len(q.Output) + len(q.Message) + int(q.Operators)*signatureSize
	switch {
	case t.submitted:
		return errors.New("a result was submitted already")
	case t.operators != int(q.Operators):
		return fmt.Errorf("the task has %d operators", t.operators)
	case len(t.candidates) == maxCandidates:
		return fmt.Errorf("the task has %d outputs already", maxCandidates)
	case s.size+size > maxHeld:
		return errors.New("there is no room for another task")
	}
	t.candidates = append(t.candidates, &candidate{output: q.Output, message: q.Message, threshold: q.Threshold})
	t.size += size
	s.size += size
	s.tasks[q.taskID] = t
	return nil
}

// forget drops what is too old.
func (s *Service) forget() {
	for id, t := range s.tasks {
		if time.Since(t.made) > keep {
			s.size -= t.size
			delete(s.tasks, id)
		}
	}
}

func (t *threshold) validate(operators uint32) error {
	switch t.Type {
	case byCount:
		if t.Signers == 0 || t.Signers > operators {
			return fmt.Errorf("%d signers of %d operators", t.Signers, operators)
		}
	case byWeight:
		if t.BPS == 0 || t.BPS > 10000 || len(t.Weights) > int(operators) {
			return errors.New("a part of the weights is not between 1 and 10000, or there are too many weights")
		}
		for _, w := range t.Weights {
			if w.Operator >= operators || w.Weight > 1<<40 { // 256 of them times 10000 fit 64 bits
				return fmt.Errorf("the weight of operator %d is out of range", w.Operator)
			}
		}
	default:
		return errors.New("the threshold is of no known type")
	}
	return nil
}

// reached returns what is collected, what is needed, and whether that is enough; of weights in
// hundredths of a percent.
func (c *candidate) reached() (collected, required int, met bool) {
	if c.threshold.Type == byCount {
		return len(c.keys), int(c.threshold.Signers), len(c.keys) >= int(c.threshold.Signers)
	}
	var signed, total uint64
	for _, w := range c.threshold.Weights {
		total += w.Weight
		if c.signers.has(int(w.Operator)) {
			signed += w.Weight
		}
	}
	return len(c.keys), int(c.threshold.BPS), total > 0 && signed*10000 >= total*uint64(c.threshold.BPS)
}

func (s *Service) submit(ctx context.Context, q *submitRequest) (int, any) {
	answer, err := s.take(ctx, q)
	if err != nil {
		return http.StatusBadRequest, submitAnswer{Error: err.Error()}
	}
	return http.StatusOK, answer
}

func (s *Service) take(ctx context.Context, q *submitRequest) (submitAnswer, error) {
	var none submitAnswer
	if q.Operator >= maxOperators {
		return none, fmt.Errorf("there is no operator %d", q.Operator)
	}
	i := int(q.Operator)
	messages, err := s.messages(q.taskID, i, q.Output)
	if err != nil {
		return none, err
	}
	key, err := ParsePublicKey(q.Key)
	if err != nil {
		return none, err
	}
	sig, err := ParseSignature(q.Signature)
	if err != nil {
		return none, err
	}
	if s.members != nil {
		members, err := s.members(ctx, q.Service)
		if err != nil {
			return none, errors.New("the operators' keys cannot be read")
		}
		if i >= len(members) || members[i] != key {
			return none, fmt.Errorf("the key is not that of operator %d", i)
		}
	}
	message, err := s.verify(ctx, key, messages, sig)
	if err != nil {
		return none, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tasks[q.taskID]
	if t == nil || t.submitted {
		return none, errors.New("the task is over")
	}
	for _, c := range t.candidates {
		if !bytes.Equal(c.output, q.Output) || !bytes.Equal(c.message, message) {
			continue
		}
		if c.signers.has(i) {
			return none, errSigned
		}
		c.signers.add(i)
		c.signatures, c.keys = append(c.signatures, sig), append(c.keys, key)
		collected, required, met := c.reached()
		return submitAnswer{Accepted: true, Collected: collected, Required: required, Met: met}, nil
	}
	return none, errors.New("the task is over")
}

var errSigned = errors.New("the operator signed already")

// messages returns what the operator may have signed for an output.
func (s *Service) messages(id taskID, operator int, output []byte) ([][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tasks[id]
	switch {
	case t == nil || time.Since(t.made) > keep:
		return nil, errors.New("there is no such task")
	case t.submitted:
		return nil, errors.New("a result was submitted already")
	case operator >= t.operators:
		return nil, fmt.Errorf("there is no operator %d", operator)
	}
	var messages [][]byte
	known := false
	for _, c := range t.candidates {
		if bytes.Equal(c.output, output) {
			known = true
			if !c.signers.has(operator) {
				messages = append(messages, c.message)
			}
		}
	}
	switch {
	case !known:
		return nil, errors.New("the output is none of the task's")
	case len(messages) == 0:
		return nil, errSigned
	}
	return messages, nil
}

// verify returns the message that was signed. It checks only so many signatures at a time.
func (s *Service) verify(ctx context.Context, key PublicKey, messages [][]byte, sig Signature) ([]byte, error) {
	select {
	case s.checks <- struct{}{}:
		defer func() { <-s.checks }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for _, m := range messages {
		if Verify(key, m, sig) {
			return m, nil
		}
	}
	return nil, errors.New("the signature is not that of the key and the message")
}

// best returns the output with enough signatures, else with the most.
func (t *task) best() (best *candidate) {
	most := -1
	for _, c := range t.candidates {
		n, _, met := c.reached()
		if met {
			return c
		}
		if n > most {
			best, most = c, n
		}
	}
	return best
}

// find returns a task; nil if there is none, or if it is too old.
func (s *Service) find(id taskID) *task {
	t := s.tasks[id]
	if t == nil || time.Since(t.made) > keep {
		return nil
	}
	return t
}

func (s *Service) status(_ context.Context, id *taskID) (int, any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.find(*id)
	if t == nil {
		return http.StatusOK, statusAnswer{}
	}
	c := t.best()
	collected, required, met := c.reached()
	expired, left := false, uint64((keep - time.Since(t.made)).Seconds())
	return http.StatusOK, statusAnswer{
		Exists: true, Collected: collected, Required: required, Met: met, Signers: c.signers, Submitted: t.submitted,
		Expired: &expired, Remaining: &left,
	}
}

func (s *Service) aggregate(_ context.Context, id *taskID) (int, any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.find(*id)
	if t == nil || t.submitted {
		return http.StatusNotFound, nil
	}
	c := t.best()
	if _, _, met := c.reached(); !met {
		return http.StatusNotFound, nil
	}
	sig, err := AddSignatures(c.signatures...)
	if err != nil {
		return http.StatusNotFound, nil
	}
	key, err := AddKeys(c.keys...)
	if err != nil {
		return http.StatusNotFound, nil
	}
	sigBytes, keyBytes := sig.Bytes(), key.Bytes()
	a := aggregateAnswer{
		taskID: *id, Output: c.output, Signers: c.signers, NonSigners: []uint32{}, Signature: sigBytes[:], Key: keyBytes[:],
	}
	for i := range t.operators {
		if !c.signers.has(i) {
			a.NonSigners = append(a.NonSigners, uint32(i))
		}
	}
	return http.StatusOK, a
}

func (s *Service) markSubmitted(_ context.Context, id *taskID) (int, any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.find(*id)
	if t == nil {
		return http.StatusBadRequest, initAnswer{Error: "there is no such task"}
	}
	t.submitted = true
	return http.StatusOK, initAnswer{Success: true}
}
