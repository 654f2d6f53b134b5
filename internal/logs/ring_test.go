package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/alloctest"
)

func TestTextOfALogLineIsHarmless(t *testing.T) {
	for text, want := range map[string]string{
		"":                      "",
		"tab\tand Ünïcode 猫 🐈":  "tab\tand Ünïcode 猫 🐈",
		"\x1b]0;title\a":        `\x1b]0;title\a`,
		"a\rb\x7f\x00":          `a\rb\x7f\x00`,
		"\u202etxt.exe\u2028":   `\u202etxt.exe\u2028`,
		"\xc3\x28 \xed\xa0\x80": `\xc3( \xed\xa0\x80`,
		"\ufffd":                "\ufffd",
	} {
		if got, cut := Harmless([]byte(text)); got != want || cut {
			t.Errorf("%q: %q %v, want %q", text, got, cut, want)
		}
	}
	for _, unit := range []string{"x", "\x00", "猫", "\xff"} {
		if got, cut := Harmless([]byte(strings.Repeat(unit, MaxText+1))); !cut || len(got) > MaxText || len(got) < MaxText-8 {
			t.Errorf("%q: %d bytes, cut %v", unit, len(got), cut)
		}
	}
}

func (r *Ring) add(texts ...string) {
	for _, text := range texts {
		r.Add(time.Now(), 7, []byte(text), false)
	}
}

func TestLogsOfSeveralFunctionsAreMergedAndCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &Ring{}, &Ring{}
		sources := []Source{{a, 1, "job1"}, {b, 2, "job2"}}
		start := time.Now()
		for i, r := range []*Ring{a, b, b, a, b} {
			r.add(fmt.Sprint(i))
			time.Sleep(time.Second)
		}
		for name, tt := range map[string]struct {
			q    faas.LogQuery
			want string
		}{
			"all": {faas.LogQuery{}, "01234"}, "the last": {faas.LogQuery{Limit: 2}, "34"},
			"since": {faas.LogQuery{Since: start.Add(time.Second)}, "1234"},
			"until": {faas.LogQuery{Until: start.Add(3 * time.Second)}, "012"},
			"the last of a time": {faas.LogQuery{Since: start.Add(time.Second), Until: start.Add(4 * time.Second), Limit: 2},
				"23"},
		} {
			got, err := texts(-1, Logs(t.Context(), "p", tt.q, sources...))
			if strings.Join(got, "") != tt.want || err != nil {
				t.Errorf("%s: %v %v, want %s", name, got, err, tt.want)
			}
		}
		for line, err := range Logs(t.Context(), "p", faas.LogQuery{Limit: 1}, sources...) {
			want := faas.LogLine{Time: start.Add(4 * time.Second).UTC(), JobID: 2, FunctionID: "job2", Text: "4"}
			if diff := cmp.Diff(want, line); diff != "" || err != nil {
				t.Errorf("%v %s", err, diff)
			}
		}
	})
}

func TestLogsAreFollowedUntilTheyAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &Ring{}, &Ring{}
		a.add("old a")
		b.add("old b")
		go func() {
			time.Sleep(time.Minute)
			b.add("new b")
			time.Sleep(time.Minute)
			a.add("new a")
			a.Close()
			b.Close()
		}()
		got, err := texts(-1, Logs(t.Context(), "p", faas.LogQuery{Follow: true, Limit: 1}, Source{a, 1, ""},
			Source{b, 2, ""}))
		if diff := cmp.Diff([]string{"old b", "new b", "new a"}, got); diff != "" || err != nil {
			t.Errorf("%v %s", err, diff)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = texts(-1, Logs(ctx, "p", faas.LogQuery{Follow: true}, Source{&Ring{}, 1, ""}))
		if faas.CodeOf(err) != faas.ErrTimeout || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ended by its context: %v", err)
		}
	})
}

func TestAReaderIsToldWhatItMissed(t *testing.T) {
	r := &Ring{}
	r.add("first")
	var seen []string
	_ = r.Read(t.Context(), "", faas.LogQuery{Follow: true}, nil, func(e Kept) bool {
		if e.Missed > 0 {
			seen = append(seen, MissedText(e.Missed))
			return true
		}
		if seen = append(seen, e.Text); e.Text == "first" {
			for range MaxLines + 3 {
				r.add("flood")
			}
			r.Close()
		}
		return true
	})
	if len(seen) != 2+MaxLines || seen[0] != "first" || seen[1] != MissedText(3) || seen[2] != "flood" {
		t.Errorf("%d lines, the first are %q", len(seen), seen[:min(len(seen), 3)])
	}
}

func TestACursorIsOfOneLogAlone(t *testing.T) {
	a, b := &Ring{}, &Ring{}
	read := func(r *Ring, behind Cursor) (got string, last Cursor) {
		_ = r.Read(t.Context(), behind, faas.LogQuery{}, nil, func(e Kept) bool {
			got, last = got+e.Text, e.Cursor
			return true
		})
		return got, last
	}
	a.add("1", "2")
	b.add("3", "4", "5")
	_, second := read(a, "")
	a.add("6")
	if got, _ := read(a, second); got != "6" {
		t.Errorf("behind the second line is %q", got)
	}
	for _, other := range []Cursor{second, "", "-", "x-1", Cursor(strings.Replace(string(second), "-2", "-99", 1)),
		"-18446744073709551615"} {
		if got, _ := read(b, other); got != "345" {
			t.Errorf("behind %q of another log is %q", other, got)
		}
	}
}

func TestALineCostsWhatIsKeptOfIt(t *testing.T) {
	const most = 64 * MaxText
	for _, unit := range []string{"x", "\x00", "猫", "\xff", "\u202e", "x\xff"} {
		text := bytes.Repeat([]byte(unit), 4<<20/len(unit))
		var r Ring
		if cost := alloctest.Bytes(func() { r.Add(time.Time{}, 1, text, false) }); cost > most {
			t.Errorf("%q: %d bytes were allocated for a line", unit, cost)
		}
	}
}

func TestARingKeepsWhatItMayAndNoMore(t *testing.T) {
	for name, text := range map[string][]byte{"short lines": []byte("x"), "no text": nil,
		"long lines": bytes.Repeat([]byte{0}, MaxText)} {
		var r Ring
		fill := func(n int) uint64 {
			return alloctest.Bytes(func() {
				for range n {
					r.Add(time.Time{}, 1, text, false)
				}
			})
		}
		fill(2 * MaxLines)
		few, many := fill(MaxLines), fill(8*MaxLines)
		if many > 10*few+64<<10 {
			t.Errorf("%s: %d bytes were allocated for %d lines, and %d for 8 times as many", name, few, MaxLines, many)
		}
		if len(r.lines) > MaxLines || cap(r.lines) > 4*MaxLines || r.bytes > MaxBytes {
			t.Errorf("%s: there are %d lines of %d bytes, in a list of %d", name, len(r.lines), r.bytes, cap(r.lines))
		}
	}
}

// A line without end, such as a progress display, is passed on when it is longer than what is kept,
// and is not read again and again.
func TestALineWithoutEndIsReadOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	write := func(text string) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = f.WriteString(text)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	f := &fileLog{path: path}
	defer f.close()
	var lines []faas.LogLine
	written := 0
	for _, step := range []struct {
		text string
		want []string // the first five bytes of the lines that come, with a + where one is cut
		at   int      // where the file is left, from its end
	}{
		{"first\nhalf", []string{"first"}, 4},
		{" a line", nil, 11},
		{"\n" + strings.Repeat("long ", MaxText), []string{"half ", "long +"}, 0},
		{strings.Repeat("more ", 1<<16), nil, 0},
		{strings.Repeat("more ", 1<<16), nil, 0},
		{"the rest\nlast\n", []string{"last"}, 0},
		{strings.Repeat("x", MaxText), nil, MaxText},
		{"\n", []string{"xxxxx"}, 0},
	} {
		write(step.text)
		written += len(step.text)
		lines = nil
		if more, err := f.news(t.Context(), func(l faas.LogLine) bool {
			lines = append(lines, l)
			return true
		}); err != nil || !more {
			t.Fatal(more, err)
		}
		var got []string
		for _, l := range lines {
			text := l.Text[:min(len(l.Text), 5)]
			if l.Truncated {
				text += "+"
			}
			got = append(got, text)
		}
		at, err := f.file.Seek(0, io.SeekCurrent)
		if diff := cmp.Diff(step.want, got); diff != "" || err != nil || int(at) != written-step.at {
			t.Errorf("after %d bytes, %.20q: at byte %d, want %d, %v\n%s", written, step.text, at, written-step.at, err, diff)
		}
	}
}

func FuzzHarmless(f *testing.F) {
	f.Add([]byte("tab\tand \x1b[2J\xff"))
	f.Add(bytes.Repeat([]byte{0}, MaxText+1))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, cut := Harmless(text)
		if len(got) > MaxText || cut && len(text) <= MaxText/len(`\U00000000`) {
			t.Errorf("%d bytes of %d, cut %v", len(got), len(text), cut)
		}
		if again, cut := Harmless([]byte(got)); again != got || cut {
			t.Errorf("%q is not harmless: %q", got, again)
		}
	})
}
