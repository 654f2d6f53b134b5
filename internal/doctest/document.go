// Package doctest tests documents. It finds their fenced blocks and runs the commands in them in a
// shell that knows only the commands that the test provides.
package doctest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Document is a file of Markdown.
type Document struct {
	Name   string // below the root of the repository
	Text   string
	Blocks []Block
}

// Block is a fenced block.
type Block struct {
	Document string
	Line     int    // of its fence, from 1 on
	Section  string // the heading above it
	Language string // "" where the fence names none
	Text     string // without the indentation of the fence
}

// Root returns the root of the repository, seen from a package's directory.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "CONTRIBUTING.md")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("the test does not run in the repository")
		}
	}
}

// All returns README.md, CONTRIBUTING.md and the documents in docs/.
func All(t testing.TB) []Document {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(Root(t), "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"README.md", "CONTRIBUTING.md"}
	for _, path := range paths {
		names = append(names, "docs/"+filepath.Base(path))
	}
	var all []Document
	for _, name := range names {
		all = append(all, Read(t, name))
	}
	return all
}

// Read reads one document.
func Read(t testing.TB, name string) Document {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(Root(t), filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	d := Document{Name: name, Text: strings.ReplaceAll(string(text), "\r\n", "\n")}
	d.Blocks = parse(name, d.Text)
	return d
}

var (
	fence   = regexp.MustCompile("^( *)```+([a-zA-Z0-9]*)")
	heading = regexp.MustCompile(`^#+ +(.*)`)
)

func parse(name, text string) []Block {
	var blocks []Block
	var open *Block
	section, indent := "", ""
	for i, line := range strings.Split(text, "\n") {
		m := fence.FindStringSubmatch(line)
		switch {
		case open != nil && m != nil && m[1] == indent:
			blocks, open = append(blocks, *open), nil
		case open != nil:
			open.Text += strings.TrimPrefix(line, indent) + "\n"
		case m != nil:
			open, indent = &Block{Document: name, Line: i + 1, Section: section, Language: m[2]}, m[1]
		default:
			if m := heading.FindStringSubmatch(line); m != nil {
				section = m[1]
			}
		}
	}
	return blocks
}
