package faastest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/engine"
)

// The environment variables that set how many histories [Weather] plays, and from which seed.
const (
	HistoriesEnv = "FAASTEST_HISTORIES"
	SeedEnv      = "FAASTEST_SEED"
)

// Weather plays random histories of one service in bad weather, through the engine and with a
// ledger. A history consists of deployments of changing jobs, code and configuration, and of
// removals. Meanwhile reads are delayed, answers are lost after the change was made, and calls
// are refused or late; programs end between any two steps, ledgers are lost, and people change
// and delete units by hand.
//
// After every step Weather checks the following. No unit that was whole is lost unless its
// removal was asked for. The ledger knows all that exists, and what it calls whole is as it says.
// A failed deployment has changed nothing but what its error lists. In the end the service can be
// deployed, answers, and can be removed without a trace.
//
// HistoriesEnv overrides histories. A failure names its seed, and SeedEnv plays that seed again.
//
// Weather starts no subtest, so that it can run in a bubble of testing/synctest.
func Weather(t *testing.T, h Harness, histories int) {
	t.Helper()
	if h.OpenIn == nil {
		t.Fatal("the harness has no OpenIn")
	}
	base := rand.Uint64() >> 1
	if text := os.Getenv(HistoriesEnv); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("%s: %v", HistoriesEnv, err)
		}
		histories = n
	}
	if text := os.Getenv(SeedEnv); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", SeedEnv, err)
		}
		base, histories = seed, 1
	}
	s := newSuite(t, h)
	for i := range histories {
		seed := base + uint64(i)
		p := &play{s: s, t: t, rng: rand.New(rand.NewPCG(seed, 1)), sky: NewSky(seed), book: newBook(),
			edited: map[string]bool{}}
		if err := p.run(fmt.Sprintf("weather%d", i)); err != nil {
			t.Fatalf("%v\nhistory:\n  %s\nplay it again with %s=%d", err, strings.Join(p.log, "\n  "), SeedEnv, seed)
		}
	}
}

// weatherJobs are those of a service in bad weather.
var weatherJobs = []uint32{JobEcho, JobEnv, JobVersion}

// play is one history.
type play struct {
	s       *suite
	t       *testing.T
	rng     *rand.Rand
	sky     *Sky
	book    *book
	service string
	calm    *watched        // sees what is
	edited  map[string]bool // by hand, since they were recorded
	log     []string
}

func (p *play) run(name string) error {
	p.service = p.s.service(name)
	p.calm = p.s.open(p.t, p.service)
	defer func() { _ = p.calm.Executor.Close() }() // again when the test ends, which is success
	for range 3 + p.rng.IntN(4) {
		if err := p.step(); err != nil {
			return err
		}
	}
	p.log = append(p.log, "the weather is good from here")
	want := p.wanted(weatherJobs, "last", false)
	clear(p.edited)
	if err, _ := p.deploy(p.ctx(), p.calm, want); err != nil {
		return fmt.Errorf("the last deployment: %w", err)
	}
	if err := p.deployed(want, p.truth()); err != nil {
		return fmt.Errorf("the last deployment: %w", err)
	}
	if got := p.s.invoke(p.t, p.calm, JobEnv, "FAASTEST_VALUE"); got != "last" {
		return fmt.Errorf("in the end the function sees %q", got)
	}
	if err := p.remove(p.ctx(), p.calm); err != nil {
		return fmt.Errorf("the last removal: %w", err)
	}
	if left := p.truth(); len(left) > 0 || len(p.book.units) > 0 {
		return fmt.Errorf("in the end there is %v, and in the ledger %v", left, p.book.units)
	}
	if states := p.s.list(p.t, p.calm); len(states) > 0 {
		return fmt.Errorf("in the end List has %d units", len(states))
	}
	return nil
}

func (p *play) ctx() context.Context { return p.s.ctx(p.t) }

// wanted returns the units of jobs, with their packages.
func (p *play) wanted(jobs []uint32, value string, otherCode bool) []faas.Unit {
	units := p.s.wanted(p.t, p.calm, other(p.s.functions(jobs...), value))
	if otherCode {
		units = p.s.otherCode(p.t, p.calm, units, value)
	}
	return units
}

// truth is what really exists of the service.
func (p *play) truth() map[string]faas.State {
	states := map[string]faas.State{}
	for _, u := range p.wanted(weatherJobs, "", false) {
		if state := p.s.observe(p.t, p.calm, u.ID); state != nil {
			states[u.ID] = *state
		}
	}
	return states
}

func (p *play) note(format string, args ...any) { p.log = append(p.log, fmt.Sprintf(format, args...)) }

// step is one operation of a program, or of a person who changes the platform or the ledger by
// hand.
func (p *play) step() error {
	before, book := p.truth(), p.book.clone()
	switch ids := slices.Sorted(maps.Keys(before)); p.rng.IntN(9) {
	case 0:
		if len(ids) > 0 {
			id := ids[p.rng.IntN(len(ids))]
			p.note("by hand: remove %s", id)
			p.edited[id] = true
			return p.calm.Remove(p.ctx(), id)
		}
	case 1:
		for _, u := range p.wanted(weatherJobs, "by hand", false) {
			if state, there := before[u.ID]; there && !p.edited[u.ID] && len(state.JobIDs) == len(u.Functions) {
				p.note("by hand: change %s", u.ID)
				p.edited[u.ID] = true
				_, err := p.calm.Converge(p.ctx(), u, &state, nil)
				return err
			}
		}
	case 2:
		p.note("the ledger is lost")
		p.book = newBook()
		return nil
	}
	var jobs []uint32
	for _, job := range weatherJobs {
		if p.rng.IntN(3) != 0 {
			jobs = append(jobs, job)
		}
	}
	if len(jobs) == 0 {
		jobs = []uint32{JobEnv}
	}
	want := p.wanted(jobs, strconv.Itoa(p.rng.IntN(2)), p.rng.IntN(2) == 0)
	removal := p.rng.IntN(5) == 0
	p.sky.Set(p.rng.IntN(4) != 0)
	mortal := p.rng.IntN(3) == 0
	if mortal {
		p.sky.EndAfter(1+p.rng.IntN(40), p.book.freeze)
	}
	ctx := p.ctx()
	if p.rng.IntN(5) == 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(p.rng.IntN(100))*time.Millisecond)
		defer cancel()
	}
	exec := p.s.h.OpenIn(p.t, p.service, p.sky)
	var err, stale error
	if removal {
		p.note("remove")
		err = p.remove(ctx, exec)
	} else {
		p.note("deploy %v with %s and code %.6s", jobs, want[0].Functions[0].Env["FAASTEST_VALUE"].Reveal(),
			want[0].Package.SHA256())
		err, stale = p.deploy(ctx, exec, want)
	}
	ended := mortal && p.sky.Ended()
	p.note("  weather: %v", p.sky.Told())
	p.sky.Set(false)
	p.sky.Settle()
	p.s.settle(p.t)
	if cerr := exec.Close(); cerr != nil {
		return cerr
	}
	now := p.truth()
	p.note("  -> %v, %v (ended: %t); it was %s, and is %s; ledger %v", err, stale, ended, brief(before), brief(now),
		p.book.units)
	p.book.thaw()
	for _, problem := range []error{err, stale} {
		if problem != nil && strings.Contains(fmt.Sprintf("%v %+v", problem, problem), p.s.secret) {
			return errors.New("a value of the environment is in an error")
		}
	}
	return p.check(before, book, now, want, removal, err, ended)
}

func brief(states map[string]faas.State) string {
	var parts []string
	for _, id := range slices.Sorted(maps.Keys(states)) {
		s := states[id]
		parts = append(parts, fmt.Sprintf("%s: %s %s code %.6s config %.6s", id, s.Status, s.Revision, s.PackageSHA256,
			s.Fingerprint))
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// check returns which promise was broken.
func (p *play) check(before map[string]faas.State, book *book, now map[string]faas.State, want []faas.Unit,
	removal bool, err error, ended bool) error {
	listed := map[string]bool{}
	var fe *faas.Error
	if errors.As(err, &fe) {
		for _, id := range fe.Leftovers {
			listed[id] = true
		}
	}
	wanted := map[string]bool{}
	for _, u := range want {
		wanted[u.ID] = true
	}
	for id, was := range before {
		entry, recorded := book.units[id]
		is, exists := now[id]
		neverWhole := recorded && entry.state == nil
		switch {
		case removal:
			if err == nil && exists && recorded {
				return fmt.Errorf("%s was to be removed and is there", id)
			}
			continue
		case !exists && ended && !p.s.h.AtomicUpdate && p.book.units[id].pending == string(engine.Update):
			continue // the program ended between deleting it and putting the new one in its place
		// A unit that no ledger knew, no read showed and no answer named may be lost only if the error
		// names it.
		case !exists && !neverWhole && (recorded || !listed[id]) && (wanted[id] || err != nil && !ended):
			return fmt.Errorf("%s stood, was not asked to go, and is gone", id)
		}
		same := is.Status == was.Status && is.PackageSHA256 == was.PackageSHA256 && is.Fingerprint == was.Fingerprint
		if recorded && !p.edited[id] && exists && err != nil && !ended && !same && !listed[id] && entry.pending == "" &&
			was.Status == faas.StatusReady {
			return fmt.Errorf("the deployment failed, %s is not as before, and the error does not list it", id)
		}
	}
	for id, is := range now {
		_, stood := before[id]
		entry, recorded := p.book.units[id]
		switch {
		case !recorded && !stood:
			return fmt.Errorf("%s came into being, and the ledger does not know it", id)
		case !recorded && book.units[id].unit.ID != "":
			return fmt.Errorf("%s stands, and the ledger has forgotten it", id)
		case !stood && err != nil && !removal && !ended && !listed[id] && !p.edited[id]:
			return fmt.Errorf("the deployment failed, %s was created, and the error does not list it", id)
		case recorded && entry.pending == "" && !p.edited[id] && entry.state != nil &&
			(is.PackageSHA256 != "" && (is.PackageSHA256 != entry.state.PackageSHA256 ||
				is.Fingerprint != entry.state.Fingerprint) || is.Status != entry.state.Status):
			return fmt.Errorf("%s is not what the ledger says: %s", id,
				brief(map[string]faas.State{"ledger": *entry.state, "truth": is}))
		}
	}
	for id, entry := range p.book.units {
		if _, exists := now[id]; !exists && entry.pending == "" && !p.edited[id] {
			return fmt.Errorf("the ledger has %s as whole, and it does not exist", id)
		}
	}
	if err == nil && !removal && !ended {
		return p.deployed(want, now)
	}
	return nil
}

// deployed checks that a successful deployment left what was wanted, and nothing else that the
// ledger does not know.
func (p *play) deployed(want []faas.Unit, now map[string]faas.State) error {
	for _, u := range want {
		if state, there := now[u.ID]; !p.edited[u.ID] && (!there || state.PackageSHA256 != "" && !state.Current(u)) {
			return fmt.Errorf("after a good deployment %s is %+v", u.ID, state)
		}
	}
	return nil
}

func (p *play) engine(exec faas.Executor) *engine.Engine {
	return engine.New(exec, p.s.h.Provider, engine.Options{
		Parallel: p.s.parallel(), Journal: p.book, Patience: p.patience()})
}

// patience is much longer than the weather is bad for any one unit, which is counted in reads.
func (p *play) patience() time.Duration { return time.Second }

// deploy does what a program does to deploy, the same whether the ledger knows anything or not.
// stale is why units that are no longer wanted could not be removed.
func (p *play) deploy(ctx context.Context, exec faas.Executor, want []faas.Unit) (err, stale error) {
	e := p.engine(exec)
	changes, err := e.Observe(ctx, want, p.book.whole())
	if err != nil {
		return err, nil
	}
	p.book.adopt(changes)
	if _, err := e.Apply(ctx, changes); err != nil {
		return err, nil
	}
	for _, c := range changes {
		if c.Action != engine.Keep { // by a read that may have been delayed
			delete(p.edited, c.Unit.ID)
		}
	}
	return nil, e.Remove(ctx, p.book.others(want))
}

func (p *play) remove(ctx context.Context, exec faas.Executor) error {
	return p.engine(exec).Remove(ctx, p.book.others(nil))
}

// book is a ledger in memory.
type book struct {
	mu     sync.Mutex
	frozen bool
	units  map[string]page
	before map[string]page // when the last changes were begun
}

// page is what a ledger knows of a unit.
type page struct {
	unit    faas.Unit
	pending string
	state   *faas.State // nil: it was never whole
}

func (p page) String() string {
	text := cmp.Or(p.pending, "whole")
	if p.state == nil {
		text += ", never whole"
	}
	return text
}

func newBook() *book { return &book{units: map[string]page{}} }

func (b *book) clone() *book {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &book{units: maps.Clone(b.units)}
}

// freeze has the book stay as it is: the program that writes it has ended.
func (b *book) freeze() { b.mu.Lock(); b.frozen = true; b.mu.Unlock() }
func (b *book) thaw()   { b.mu.Lock(); b.frozen = false; b.mu.Unlock() }

func (b *book) write(f func()) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.frozen {
		return errEnded
	}
	f()
	return nil
}

func (b *book) whole() map[string]faas.State {
	b.mu.Lock()
	defer b.mu.Unlock()
	states := map[string]faas.State{}
	for id, p := range b.units {
		if p.state != nil {
			state := *p.state
			if p.pending == string(engine.Remove) {
				state.Status = faas.StatusPending
			}
			states[id] = state
		}
	}
	return states
}

// adopt records the units that exist and are kept, and marks those that were never whole.
func (b *book) adopt(changes []engine.Change) {
	_ = b.write(func() {
		for i := range changes {
			c := &changes[i]
			known, recorded := b.units[c.Unit.ID]
			c.NeverWhole = c.Prior != nil && recorded && known.state == nil
			if c.Action == engine.Keep {
				b.units[c.Unit.ID] = page{c.Unit, "", c.Prior}
			}
		}
	})
}

// others returns the units that are recorded and not among units.
func (b *book) others(units []faas.Unit) []faas.Unit {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []faas.Unit
	for _, id := range slices.Sorted(maps.Keys(b.units)) {
		if !slices.ContainsFunc(units, func(u faas.Unit) bool { return u.ID == id }) {
			out = append(out, b.units[id].unit)
		}
	}
	return out
}

// Begin records the units that were whole.
func (b *book) Begin(changes []engine.Change) error {
	if err := b.write(func() { b.before = maps.Clone(b.units) }); err != nil {
		return err
	}
	return b.Undoing(changes)
}

func (b *book) Undoing(changes []engine.Change) error {
	return b.write(func() {
		for _, c := range changes {
			p := page{c.Unit, string(c.Action), b.before[c.Unit.ID].state}
			if c.Prior != nil && !c.NeverWhole {
				p.state = c.Prior
			}
			b.units[c.Unit.ID] = p
		}
	})
}

func (b *book) Done(c engine.Change, state faas.State) error {
	return b.write(func() { b.units[c.Unit.ID] = page{c.Unit, "", &state} })
}

func (b *book) Undone(c engine.Change) error {
	return b.write(func() {
		known, recorded := b.before[c.Unit.ID]
		if !recorded {
			delete(b.units, c.Unit.ID)
			return
		}
		if c.Prior != nil && !c.NeverWhole {
			known.state, known.pending = c.Prior, ""
		}
		b.units[c.Unit.ID] = known
	})
}

func (b *book) Unmade(c engine.Change) error {
	return b.write(func() {
		if known, recorded := b.before[c.Unit.ID]; recorded {
			b.units[c.Unit.ID] = known
		} else {
			delete(b.units, c.Unit.ID)
		}
	})
}

func (b *book) Found(c engine.Change) error {
	return b.write(func() {
		b.units[c.Unit.ID] = page{c.Unit, string(engine.Update), &faas.State{ID: c.Unit.ID, Status: faas.StatusFailed}}
	})
}

func (b *book) Gone(id string) error { return b.write(func() { delete(b.units, id) }) }
