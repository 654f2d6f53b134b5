package serverless

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/files"
	"github.com/tangle-network/blueprint-serverless/internal/document"
)

// Save writes the policy to the file that [WithPolicyPath] names, else to the one it was loaded from, else to [DefaultPolicyPath].
//
// Save replaces what it knows and no more. It reads the file again under a lock and changes, in place, those known members of the serverless section
// whose values differ from the policy's: every other byte stays, and so does what someone else has written to foreign sections since the policy
// was loaded. A serverless section that is missing is written in full. Foreign members that the policy carries from another file are added where
// the file has none of that name. The file keeps its format; a new one has the format of the file that the policy was loaded from, or is JSON.
// Nothing is written if nothing differs.
//
// An invalid policy (see [Policy.Validate]) is refused, and so is a file that [LoadPolicy] would refuse: it is mended by hand, not overwritten.
// An empty file counts as missing.
//
// The file is replaced atomically, by a synced temporary file in its directory. It keeps its mode; a new one has 0600, and missing directories are
// made with 0700. A link to the file stays a link. Concurrent saves, of other processes too, wait for each other through a lock file beside it, named
// like it with ".lock" appended, which the last one removes where the system lets it; ErrConflict says that another process held it
// for 30 seconds. Other errors are as those of LoadPolicy. A failed Save leaves the file as it was, and no temporary file.
//
// Save does not change the policy, and may be called concurrently.
func (p *Policy) Save(opts ...PolicyOption) error {
	loaded := ""
	if p.source != nil {
		loaded = p.source.path
	}
	named, err := policyPath(opts, loaded)
	if err != nil {
		return err
	}
	if problem := p.Serverless.problem(); problem != nil {
		return policyErrorf(faas.ErrInvalidArgument, opSavePolicy,
			&PolicyError{Path: named, Field: strings.Join(problem.path, "."), Err: problem.err})
	}
	path, err := resolveLinks(named)
	if err != nil {
		return fileError(opSavePolicy, named, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fileError(opSavePolicy, named, err)
	}
	unlock, err := lockPolicy(path)
	if err != nil {
		return fileError(opSavePolicy, named, err)
	}
	defer unlock()
	return p.saveLocked(named, path)
}

func (p *Policy) saveLocked(named, path string) error {
	content, err := readPolicyFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fileError(opSavePolicy, named, err)
	}
	base, cause := p.saveBase(content, path)
	if cause != nil {
		cause.Path = named
		cause.Err = fmt.Errorf("the file is not overwritten, because it cannot be read: %w", cause.Err)
		return policyErrorf(faas.ErrInvalidArgument, opSavePolicy, cause)
	}
	carried, err := p.carried(base, path)
	var text []byte
	if err == nil {
		text, err = p.rewrite(base, carried...)
	}
	if err == nil {
		err = p.verify(text, base)
	}
	if err != nil {
		return policyErrorf(faas.ErrUnsupported, opSavePolicy,
			&PolicyError{Path: named, Err: fmt.Errorf("cannot be changed in place: %w", err)})
	}
	if len(text) > maxPolicySize {
		return policyErrorf(faas.ErrTooLarge, opSavePolicy,
			&PolicyError{Path: named, Err: fmt.Errorf("would become larger than %d MiB", maxPolicySize>>20)})
	}
	if bytes.Equal(text, content) {
		return nil
	}
	if err := replaceFile(path, text); err != nil {
		return fileError(opSavePolicy, named, err)
	}
	return nil
}

// saveBase returns the document that is to be changed: the file's, or where there is none the one that the policy comes from.
func (p *Policy) saveBase(content []byte, path string) (*document.Document, *PolicyError) {
	if len(bytes.TrimSpace(content)) > 0 {
		doc, _, cause := parsePolicy(content)
		return doc, cause
	}
	if p.source != nil && p.source.doc != nil {
		return p.source.doc, nil
	}
	doc, _, cause := parsePolicy([]byte("{}\n"))
	return doc, cause
}

// carriedMember is a foreign member on its way from one file to another.
type carriedMember struct {
	path  []string // of the object
	name  string
	value document.Literal
}

// carried lists the foreign members that the policy brings from another file and that base, which stands at path, does not have. What the
// policy's own file has lost since, someone has removed.
func (p *Policy) carried(base *document.Document, path string) ([]carriedMember, error) {
	if p.source == nil || p.source.doc == nil || p.source.doc == base || p.source.path == path {
		return nil, nil
	}
	have := map[string]bool{}
	for _, m := range foreignMembers(base.Root) {
		have[strings.Join(m.path, "\x00")] = true
	}
	own := p.source.doc
	if base.Format == document.JSON {
		var err error
		if own, err = own.AsJSON(); err != nil {
			return nil, err
		}
	}
	var carried []carriedMember
	for _, m := range foreignMembers(own.Root) {
		if have[strings.Join(m.path, "\x00")] {
			continue
		}
		if base.Format != document.JSON {
			return nil, fmt.Errorf("it is TOML, and %s comes from another file: copy that by hand, or save to a new file",
				strings.Join(m.path, "."))
		}
		last := len(m.path) - 1
		carried = append(carried, carriedMember{m.path[:last], m.path[last], own.Raw(m.value)})
	}
	return carried, nil
}

// verify makes sure, before anything is written, that text says what the policy says and has lost nothing of base.
func (p *Policy) verify(text []byte, base *document.Document) error {
	doc, settings, cause := parsePolicy(text)
	if cause != nil {
		return cause
	}
	if !settings.equal(p.Serverless) {
		return errors.New("the settings would not come back as they are")
	}
	after := Policy{source: &policySource{doc: doc}}.foreign()
	for path, value := range (Policy{source: &policySource{doc: base}}).foreign() {
		if after[path] != value {
			return fmt.Errorf("%s would not stay as it is", path)
		}
	}
	return nil
}

// replaceFile puts text in the place of the file at path, all of it or nothing.
func replaceFile(path string, text []byte) error {
	mode := fs.FileMode(0o600)
	info, err := os.Stat(path)
	if err == nil {
		mode = info.Mode().Perm()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return files.Write(path, text, mode, func(temp *os.File) {
		if info != nil {
			keepOwner(temp, info)
		}
	})
}
