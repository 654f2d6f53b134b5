package serverless

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/document"
	"github.com/tangle-network/blueprint-serverless/internal/files"
)

// maxPolicySize is how big a policy file may be, in bytes: real ones have a few hundred.
const maxPolicySize = 1 << 20

const (
	opLoadPolicy = "load policy"
	opSavePolicy = "save policy"
)

// policySource is the file that a policy comes from, as it was. It is never changed, so that copies of a policy may share it.
type policySource struct {
	path string             // with links resolved; empty for a policy read by UnmarshalJSON
	doc  *document.Document // nil if there was no file
}

// LoadPolicy reads the operator's policy from [DefaultPolicyPath], or from the file that [WithPolicyPath] names.
//
// The file is JSON, or the same structure as TOML. A field that is missing has its default (see [DefaultPolicy]); without a type, provider is
// AWS Lambda. Members that are not known are kept for [Policy.Save], except those that look like a known name misspelt ("Enable",
// "fallback_to_vn"), which are errors; so are members that stand twice, and a link to a file that does not exist. The values of
// provider_config are strings, numbers, booleans, or arrays or objects of those, which are kept as JSON.
//
// If there is no file, LoadPolicy returns the defaults and no error. With any other trouble it returns an error and, beside it, the defaults, for
// a caller that chooses to go on with serverless turned off: the policy is never nil. The error is ErrInvalidArgument for content,
// or a TOML file of more than 4096 keys and values, ErrTooLarge for more than 1 MiB, ErrPermissionDenied for a file that may not be read; it names the file and, for content, line, column and field,
// and a *[PolicyError] in its chain holds them.
func LoadPolicy(opts ...PolicyOption) (*Policy, error) {
	p := DefaultPolicy()
	named, err := policyPath(opts, "")
	if err != nil {
		return p, err
	}
	path, err := resolveLinks(named)
	if err != nil {
		return p, fileError(opLoadPolicy, named, err)
	}
	p.source = &policySource{path: path}
	content, err := readPolicyFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if info, linkErr := os.Lstat(named); linkErr == nil && info.Mode()&fs.ModeSymlink != 0 {
			return p, fileError(opLoadPolicy, named, fmt.Errorf("is a link to %s: %w", path, fs.ErrNotExist))
		}
		return p, nil
	}
	if err != nil {
		return p, fileError(opLoadPolicy, named, err)
	}
	doc, settings, cause := parsePolicy(content)
	if cause != nil {
		cause.Path = named
		return p, policyErrorf(faas.ErrInvalidArgument, opLoadPolicy, cause)
	}
	p.Serverless = settings
	p.source.doc = doc
	return p, nil
}

// readPolicyFile returns errors of the operating system as they are.
func readPolicyFile(path string) ([]byte, error) {
	info, err := os.Stat(path) // before opening, because that would wait for a writer of a named pipe
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, fmt.Errorf("%w: is a directory", fs.ErrInvalid)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: is not a regular file", fs.ErrInvalid)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxPolicySize+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxPolicySize {
		return nil, fmt.Errorf("%w for a policy: more than %d MiB", faas.ErrTooLarge, maxPolicySize>>20)
	}
	return content, nil
}

// parsePolicy reads and checks content.
func parsePolicy(content []byte) (*document.Document, ServerlessSettings, *PolicyError) {
	at := func(offset int, field string, err error) *PolicyError {
		line, column := document.Position(content, offset)
		return &PolicyError{Line: line, Column: column, Field: field, Err: err}
	}
	doc, err := document.Parse(content)
	if err != nil {
		syntax, _ := errors.AsType[*document.SyntaxError](err)
		return nil, ServerlessSettings{}, at(syntax.Offset, syntax.Field, err)
	}
	settings, problem := decodePolicy(doc.Root)
	if problem != nil {
		return nil, ServerlessSettings{}, at(problem.offset, strings.Join(problem.path, "."), problem.err)
	}
	return doc, settings, nil
}

// resolveLinks returns the absolute path of the file that path leads to, which need not exist, nor its directory.
func resolveLinks(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	for range 40 { // as many as Linux follows
		if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
			path = filepath.Join(dir, filepath.Base(path))
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && info.Mode()&fs.ModeSymlink == 0 {
			return path, nil
		}
		if err != nil {
			return "", err
		}
		target, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
	}
	return "", fmt.Errorf("%w: too many links", fs.ErrInvalid)
}

// foreign returns the unknown members by their path, as compact JSON.
func (p Policy) foreign() map[string]string {
	if p.source == nil || p.source.doc == nil {
		return nil
	}
	found := map[string]string{}
	for _, m := range foreignMembers(p.source.doc.Root) {
		names := slices.Clone(m.path)
		for i, name := range names {
			if strings.ContainsAny(name, ".\"") || name == "" {
				names[i] = strconv.Quote(name)
			}
		}
		found[strings.Join(names, ".")] = m.value.JSON()
	}
	return found
}

type foreignMember struct {
	path  []string
	value *document.Value
}

// foreignMembers lists what stands in a policy's document beside the members that this version knows.
func foreignMembers(root *document.Value) []foreignMember {
	var found []foreignMember
	var path []string
	v := root
	for _, level := range []struct {
		known []string
		next  string
	}{{policyNames, "serverless"}, {serverlessNames, "provider"}, {providerNames, ""}} {
		if v == nil {
			break
		}
		for i := range v.Members {
			m := &v.Members[i]
			if !slices.Contains(level.known, m.Name) {
				found = append(found, foreignMember{append(slices.Clip(path), m.Name), &m.Value})
			}
		}
		v = v.Get(level.next)
		path = append(path, level.next)
	}
	return found
}

// MarshalJSON returns the policy as a file would hold it, foreign members included. Values of provider_config are part of it.
func (p Policy) MarshalJSON() ([]byte, error) {
	base, err := document.Parse([]byte("{}"))
	if err == nil && p.source != nil && p.source.doc != nil {
		base, err = p.source.doc.AsJSON()
	}
	if err != nil {
		return nil, err
	}
	return p.rewrite(base) // encoding/json takes the white space out
}

// UnmarshalJSON reads a policy by the rules of [LoadPolicy]. If it fails the policy is as it was.
func (p *Policy) UnmarshalJSON(text []byte) error {
	doc, settings, cause := parsePolicy(bytes.Clone(text))
	if cause != nil {
		return policyErrorf(faas.ErrInvalidArgument, opLoadPolicy, cause)
	}
	*p = Policy{Serverless: settings, source: &policySource{doc: doc}}
	return nil
}

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

// policyLockWait bounds the wait for another Save, which takes milliseconds: whoever holds the lock for longer hangs.
const policyLockWait = 30 * time.Second

// lockPolicy waits for the lock on the policy file at path. The returned function releases it.
func lockPolicy(path string) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(context.Background(), policyLockWait)
	defer cancel()
	lock, err := files.AcquireLock(ctx, path+".lock", 5*time.Millisecond)
	switch {
	case errors.Is(err, files.ErrLockHeld):
		return nil, fmt.Errorf("%w: another process has held %s.lock for %s", faas.ErrConflict, path, policyLockWait)
	case err != nil:
		return nil, err
	}
	return func() { _ = lock.Release() }, nil // the file was saved; the lock ends with the process at the latest
}
