package ledger

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/files"
	"github.com/tangle-network/blueprint-serverless/orchestrator"
)

// newSuffix ends the name of a file that is about to replace a ledger.
const newSuffix = ".new"

// Ledger is the locked ledger of one service. Once a method has returned without an error, what it
// wrote survives a crash. A Ledger is safe for concurrent use.
type Ledger struct {
	path string
	lock *files.Lock

	mu    sync.Mutex
	file  *os.File // nil until the first write
	rec   Record
	lines int
	err   error // of a failed write, after which the content of the file is unknown and nothing is written
}

// load reads the ledger, drops a half-written last line, and compacts a file that has grown.
func (l *Ledger) load(service string, provider faas.Config) error {
	text, err := readFile(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		l.rec = Record{Service: service, Provider: provider, Units: map[string]Unit{}}
		return nil
	}
	if err != nil {
		return faas.Errorf(faas.ErrInternal, "read ledger", "", "%w", err)
	}
	rec, lines, whole, err := parse(l.path, text)
	if err != nil {
		return err
	}
	if lines > 0 && (rec.Service != service || Location(rec.Provider) != Location(provider)) {
		return damaged(l.path, "it belongs to service %q, not %q, or to another place", rec.Service, service)
	}
	rec.Service, rec.Provider = service, provider
	l.rec, l.lines = rec, lines
	if whole < int64(len(text)) || lines > 64+4*len(rec.Units) {
		return l.compact()
	}
	return nil
}

func (l *Ledger) header() *header {
	return &header{Format: Format, Service: l.rec.Service, Provider: l.rec.Provider}
}

// compact rewrites the file as short as possible.
func (l *Ledger) compact() error {
	entries := []entry{{Header: l.header()}}
	bare := l.rec
	bare.Units = nil
	entries = append(entries, entry{Service: &bare})
	if units := l.rec.Sorted(); len(units) > 0 {
		entries = append(entries, entry{Put: units})
	}
	var text []byte
	for _, e := range entries {
		var err error
		if text, err = appendLine(text, e); err != nil {
			return faas.Errorf(faas.ErrInternal, "write ledger", "", "%w", err)
		}
	}
	if err := l.replace(text); err != nil {
		return faas.Errorf(faas.ErrInternal, "write ledger", "", "%w", err)
	}
	l.lines = len(entries)
	return nil
}

// replace makes text the content of the file, at once or not at all. A crash can leave a file
// beside it, which the next call overwrites, because the caller holds the lock.
func (l *Ledger) replace(text []byte) error {
	next := l.path + newSuffix
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(next))
	}
	if err := os.Rename(next, l.path); err != nil {
		return errors.Join(err, os.Remove(next))
	}
	return files.SyncDir(filepath.Dir(l.path))
}

// Record returns what the ledger says now.
func (l *Ledger) Record() Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rec.clone()
}

// Describe records everything about the service except its units.
func (l *Ledger) Describe(r Record) error {
	r.Units, r.Provider = nil, withoutSecrets(r.Provider)
	r.Updated = time.Now().UTC()
	return l.write(entry{Service: &r})
}

// SetRunner records where the service's runner is; nil if it has none that outlives its program.
func (l *Ledger) SetRunner(runner *orchestrator.Ref) error {
	rec := l.Record()
	rec.Runner = runner
	return l.Describe(rec)
}

// Put records units in one write: with Pending set before a change, and without it once the change
// has ended.
func (l *Ledger) Put(units ...Unit) error {
	if len(units) == 0 {
		return nil
	}
	units = slices.Clone(units)
	now := time.Now().UTC()
	for i := range units {
		if units[i].Since = nil; units[i].Pending != "" {
			units[i].Since = &now
		}
	}
	return l.write(entry{Put: units})
}

// Drop records that a unit no longer exists.
func (l *Ledger) Drop(id string) error { return l.write(entry{Drop: &id}) }

// withoutSecrets returns the part of a configuration that a ledger may keep.
func withoutSecrets(c faas.Config) faas.Config {
	c.HTTPClient, c.Logger = nil, nil
	if c.Endpoint != "" {
		c.Endpoint = faas.RedactURL(c.Endpoint)
	}
	c.Options = faas.PublicOptions(c)
	return c
}

func (l *Ledger) write(e entry) (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	defer func() {
		if err != nil {
			err = faas.Errorf(faas.ErrInternal, "write ledger", "", "%w", err)
			l.err = err
		}
	}()
	var text []byte
	if l.lines == 0 {
		if text, err = appendLine(text, entry{Header: l.header()}); err != nil {
			return err
		}
	}
	if text, err = appendLine(text, e); err != nil {
		return err
	}
	if l.lines == 0 {
		if err = l.replace(text); err != nil {
			return err
		}
		l.lines++
	} else if err = l.append(text); err != nil {
		return err
	}
	l.lines++
	l.rec.apply(e)
	return nil
}

func (l *Ledger) append(text []byte) (err error) {
	if l.file == nil {
		if l.file, err = os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
			return err
		}
	}
	if _, err = l.file.Write(text); err != nil {
		return err
	}
	return l.file.Sync()
}

// Delete removes the ledger of a service that holds nothing. The ledger can only be closed
// afterwards.
func (l *Ledger) Delete() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.rec.Empty() {
		return faas.Errorf(faas.ErrInternal, "delete ledger", "", "%d units of %q are still recorded, or its runner is",
			len(l.rec.Units), l.rec.Service)
	}
	var errs []error
	if l.file != nil {
		errs = append(errs, l.file.Close())
		l.file = nil
	}
	// A crash may have left the first, and nothing reads it once the second is gone.
	for _, path := range []string{l.path + newSuffix, l.path} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	l.lines, l.err = 0, faas.Errorf(faas.ErrInternal, "write ledger", "", "the ledger of %q was deleted", l.rec.Service)
	return errors.Join(errs...)
}

// Close ends the operation, so that the next one can lock the ledger.
func (l *Ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	if l.file != nil {
		errs = append(errs, l.file.Close())
		l.file = nil
	}
	return errors.Join(append(errs, l.lock.Release())...)
}
