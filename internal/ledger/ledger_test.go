package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
)

var here = faas.Config{Provider: "custom", Endpoint: "http://127.0.0.1:1"}

func unit(id, pending string) Unit {
	u := Unit{ID: id, Pending: pending}
	if pending == "" {
		u.State = &faas.State{ID: id, Status: faas.StatusReady, Fingerprint: "f"}
	}
	return u
}

func lock(t *testing.T, s *Store, service string) *Ledger {
	t.Helper()
	l, err := s.Lock(t.Context(), service, here, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// write writes the history that the tests below damage, and returns the record after each write.
func write(t *testing.T, s *Store, service string) (history []Record, sizes []int64) {
	t.Helper()
	l := lock(t, s, service)
	note := func(err error) {
		must(t, err)
		info, err := os.Stat(l.path)
		must(t, err)
		history, sizes = append(history, l.Record()), append(sizes, info.Size())
	}
	note(l.Describe(Record{Service: service, Provider: here, BlueprintID: 7, LocalJobs: []uint32{2}}))
	note(l.Put(unit("a", "create"), unit("b", "create")))
	note(l.Put(unit("a", "")))
	note(l.Put(unit("b", "")))
	note(l.Drop("a"))
	must(t, l.Close())
	return history, sizes
}

func TestWhatWasWrittenIsReadBack(t *testing.T) {
	s := NewStore(t.TempDir())
	history, _ := write(t, s, "svc")
	got, err := s.Read("svc", here)
	must(t, err)
	if diff := cmp.Diff(history[len(history)-1], got); diff != "" {
		t.Errorf("(-written +read):\n%s", diff)
	}
	if len(got.Units) != 1 || got.Units["b"].Pending != "" {
		t.Errorf("units %v, want b alone, whole", got.Units)
	}
}

// A crash can cut the file off anywhere in the write that is under way. All earlier writes must be
// there, and writing must continue.
func TestALedgerCutOffAnywhereKeepsWhatWasSyncedBefore(t *testing.T) {
	dir := t.TempDir()
	s := NewStore(dir)
	history, sizes := write(t, s, "svc")
	path := s.path("svc", here)
	whole, err := os.ReadFile(path)
	must(t, err)
	for cut := int64(1); cut < int64(len(whole)); cut++ {
		if near := slices.ContainsFunc(sizes, func(size int64) bool { return cut-size <= 1 && size-cut <= 1 }); !near &&
			cut%7 != 0 {
			continue // every cut syncs files, and cuts inside a line are alike
		}
		must(t, os.WriteFile(path, whole[:cut], 0o600))
		want := Record{Service: "svc", Provider: here, Units: map[string]Unit{}}
		for i, size := range sizes {
			if size <= cut {
				want = history[i]
			}
		}
		l, err := s.Lock(t.Context(), "svc", here, false)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if diff := cmp.Diff(want, l.Record()); diff != "" {
			t.Fatalf("cut at %d (-want +got):\n%s", cut, diff)
		}
		must(t, l.Put(unit("c", "create")))
		must(t, l.Close())
		got, err := s.Read("svc", here)
		if err != nil || got.Units["c"].Pending != "create" {
			t.Fatalf("cut at %d: what was written after is not there: %v, %v", cut, got, err)
		}
	}
}

func TestADamagedLedgerIsRefusedAndLeftAlone(t *testing.T) {
	s := NewStore(t.TempDir())
	write(t, s, "svc")
	path := s.path("svc", here)
	whole, err := os.ReadFile(path)
	must(t, err)
	flipped := bytes.Clone(whole)
	flipped[bytes.IndexByte(flipped, '\n')+20] ^= 1
	newer, err := appendLine(nil, entry{Header: &header{Format: Format + 1, Service: "svc", Provider: here}})
	must(t, err)
	other, err := appendLine(nil, entry{Header: &header{Format: Format, Service: "another", Provider: here}})
	must(t, err)
	for name, c := range map[string]struct {
		text []byte
		code faas.Code
		says string
	}{
		"a bit flipped":    {flipped, faas.ErrInternal, "line 2"},
		"a newer format":   {newer, faas.ErrUnsupported, "newer version"},
		"another's":        {other, faas.ErrInternal, `"another"`},
		"something else":   {[]byte("hello\nworld\n"), faas.ErrInternal, "line 1"},
		"a line taken out": {whole[bytes.IndexByte(whole, '\n')+1:], faas.ErrInternal, "header"},
		"larger than any":  {bytes.Repeat([]byte("x"), maxFile+1), faas.ErrInternal, "bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			must(t, os.WriteFile(path, c.text, 0o600))
			_, err := s.Lock(t.Context(), "svc", here, false)
			if faas.CodeOf(err) != c.code || !strings.Contains(fmt.Sprint(err), c.says) ||
				!strings.Contains(fmt.Sprint(err), path) {
				t.Errorf("error %v, want %s that names the file and %q", err, c.code, c.says)
			}
			after, err := os.ReadFile(path)
			must(t, err)
			if !bytes.Equal(after, c.text) {
				t.Error("the file was changed")
			}
		})
	}
}

func TestOneOperationAtATime(t *testing.T) {
	s := NewStore(t.TempDir())
	first := lock(t, s, "svc")
	lock(t, s, "other") // another service has a lock of its own
	if _, err := s.Lock(t.Context(), "svc", here, false); !errors.Is(err, faas.ErrConflict) {
		t.Errorf("error %v, want a conflict", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Lock(ctx, "svc", here, true); !errors.Is(err, faas.ErrTimeout) {
		t.Errorf("error %v, want a timeout", err)
	}
	got := make(chan error)
	go func() {
		l, err := s.Lock(t.Context(), "svc", here, true)
		if err == nil {
			err = l.Close()
		}
		got <- err
	}()
	must(t, first.Close())
	must(t, <-got)
}

func TestNoSecretIsWritten(t *testing.T) {
	const canary = "s3cr3t-canary"
	s := NewStore(t.TempDir())
	l, err := s.Lock(t.Context(), "svc", faas.Config{
		Provider: "custom", Endpoint: "https://user:" + canary + "@example.com/?token=" + canary,
		Options: map[string]string{"token": canary},
	}, false)
	must(t, err)
	defer l.Close()
	u := unit("a", "create")
	u.Functions = []faas.Function{{JobID: 1, Env: faas.NewEnv(map[string]string{"KEY": canary})}}
	must(t, l.Put(u))
	text, err := os.ReadFile(l.path)
	must(t, err)
	if bytes.Contains(text, []byte(canary)) {
		t.Errorf("the ledger holds a secret:\n%s", text)
	}
}

// A renamed option is read under its new name.
func TestOptionsOfAnOlderVersionHaveTheirNamesOfNow(t *testing.T) {
	faas.Register("test-renamed", faas.ProviderInfo{
		Options: []faas.Option{{Name: "bucket", Former: []string{"my_bucket"}}, {Name: "zone"}},
		Open:    func(context.Context, faas.Config) (faas.Executor, error) { return nil, nil },
	})
	var text []byte
	for _, line := range []string{
		`{"header":{"format":1,"service":"svc","provider":{"provider":"test-renamed"}}}`,
		`{"record":{"service":"svc","provider":{"provider":"test-renamed","options":{"my_bucket":"b","zone":"z"}},` +
			`"blueprint_id":1,"given":["env.A","option.my_bucket","option.area"]}}`,
	} {
		text = fmt.Appendf(text, "%08x %s\n", crc32.Checksum([]byte(line), castagnoli), line)
	}
	for name, text := range map[string][]byte{"whole": text,
		"with an unfinished line": append(slices.Clone(text), "0123"...)} {
		rec, _, _, err := parse("ledger", text)
		must(t, err)
		if diff := cmp.Diff(map[string]string{"bucket": "b", "zone": "z"}, rec.Provider.Options); diff != "" {
			t.Errorf("%s: options (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff([]string{"env.A", "option.area", "option.bucket"}, rec.Given); diff != "" {
			t.Errorf("%s: given (-want +got):\n%s", name, diff)
		}
	}
}

func TestServicesAreListedAndDeletedOnesAreNot(t *testing.T) {
	s := NewStore(t.TempDir())
	elsewhere := here
	elsewhere.Endpoint = "http://127.0.0.1:2"
	names := []string{"a/b", "a:b", strings.Repeat("long ", 25), "naïve"}
	for _, name := range names {
		write(t, s, name)
	}
	second, err := s.Lock(t.Context(), "a:b", elsewhere, false)
	must(t, err)
	must(t, second.Put(unit("a", "")))
	must(t, second.Close())
	records, err := s.Records()
	must(t, err)
	var got []string
	for _, r := range records {
		got = append(got, r.Service+" "+r.Provider.Endpoint)
	}
	if diff := cmp.Diff([]string{"a/b " + here.Endpoint, "a:b " + here.Endpoint, "a:b " + elsewhere.Endpoint,
		names[2] + " " + here.Endpoint, "naïve " + here.Endpoint}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	l := lock(t, s, "a/b")
	if err := l.Delete(); err == nil {
		t.Error("a ledger that still records a unit was deleted")
	}
	must(t, l.Drop("b"))
	must(t, l.Delete())
	must(t, l.Close())
	if rec, err := s.Read("a/b", here); err != nil || len(rec.Units) != 0 {
		t.Errorf("record %v, %v: want an empty one", rec, err)
	}
}

func TestALongHistoryIsCompacted(t *testing.T) {
	s := NewStore(t.TempDir())
	l := lock(t, s, "svc")
	for range 200 {
		must(t, l.Put(unit("a", "update")))
		must(t, l.Put(unit("a", "")))
	}
	want := l.Record()
	must(t, l.Close())
	l = lock(t, s, "svc")
	if diff := cmp.Diff(want, l.Record()); diff != "" {
		t.Errorf("compaction changed what the ledger says (-before +after):\n%s", diff)
	}
	text, err := os.ReadFile(l.path)
	must(t, err)
	if n := bytes.Count(text, []byte("\n")); n > 5 {
		t.Errorf("%d lines after compaction", n)
	}
}

func FuzzParse(f *testing.F) {
	s := NewStore(f.TempDir())
	l, err := s.Lock(context.Background(), "svc", here, false)
	if err != nil {
		f.Fatal(err)
	}
	for _, err := range []error{l.Put(unit("a", "create")), l.Put(unit("a", "")), l.Close()} {
		if err != nil {
			f.Fatal(err)
		}
	}
	text, err := os.ReadFile(l.path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(text[:len(text)/2])
	f.Fuzz(func(t *testing.T, text []byte) {
		_, _, whole, err := parse("ledger", text)
		if err == nil && (whole < 0 || whole > int64(len(text))) {
			t.Errorf("%d whole bytes of %d", whole, len(text))
		}
	})
}
