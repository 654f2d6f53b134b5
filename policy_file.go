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

// maxPolicySize is the maximum size of a policy file in bytes. Real ones have a few hundred bytes.
const maxPolicySize = 1 << 20

const (
	opLoadPolicy = "load policy"
	opSavePolicy = "save policy"
)

// policySource is the file that a policy was read from. It is immutable, so copies of a policy may
// share it.
type policySource struct {
	path string             // without symbolic links; empty for a policy read by UnmarshalJSON
	doc  *document.Document // nil if there was no file
}

// LoadPolicy reads the operator's policy from [DefaultPolicyPath], or from the file that
// [WithPolicyPath] names.
//
// The file is JSON, or the same structure as TOML. A missing field has its default (see
// [DefaultPolicy]); a provider without a type is AWS Lambda. LoadPolicy keeps unknown members for
// [Policy.Save]. It refuses unknown members that look like a known name misspelt ("Enable",
// "fallback_to_vn"), duplicate members, and a link to a file that does not exist. The values of
// provider_config are strings, numbers, booleans, and arrays or objects of those; arrays and
// objects are kept as JSON.
//
// If there is no file, LoadPolicy returns the defaults and no error. In every other case of
// failure it returns an error together with the defaults, for callers that prefer to continue with
// serverless turned off: the policy is never nil.
//
// The error is ErrInvalidArgument for bad content and for a TOML file of more than 4096 keys and
// values, ErrTooLarge for more than 1 MiB, and ErrPermissionDenied for an unreadable file. It
// names the file and, for content, the line, the column and the field. A *[PolicyError] in its
// chain holds them.
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

// readPolicyFile reads a policy file. It returns errors of the operating system unchanged.
func readPolicyFile(path string) ([]byte, error) {
	info, err := os.Stat(path) // before Open, which would wait for the writer of a named pipe
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

// parsePolicy parses and validates content.
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

// resolveLinks returns the absolute path that path leads to. Neither that file nor its directory
// has to exist.
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

// foreign returns the unknown members as compact JSON by path.
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

// foreignMembers returns the members of a policy's document that this version does not know.
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

// MarshalJSON returns the policy as its file would hold it, with foreign members and with the
// values of provider_config.
func (p Policy) MarshalJSON() ([]byte, error) {
	base, err := document.Parse([]byte("{}"))
	if err == nil && p.source != nil && p.source.doc != nil {
		base, err = p.source.doc.AsJSON()
	}
	if err != nil {
		return nil, err
	}
	return p.rewrite(base) // encoding/json compacts it
}

// UnmarshalJSON reads a policy by the rules of [LoadPolicy]. If it fails, the policy is unchanged.
func (p *Policy) UnmarshalJSON(text []byte) error {
	doc, settings, cause := parsePolicy(bytes.Clone(text))
	if cause != nil {
		return policyErrorf(faas.ErrInvalidArgument, opLoadPolicy, cause)
	}
	*p = Policy{Serverless: settings, source: &policySource{doc: doc}}
	return nil
}

// Save writes the policy to the file that [WithPolicyPath] names. Without that option it writes to
// the file that the policy was loaded from, or else to [DefaultPolicyPath].
//
// Save changes only what it knows. Under a lock it reads the file again, and replaces those known
// members of the serverless section that differ from the policy. All other bytes stay, including
// changes to foreign sections since the policy was loaded. A missing serverless section is added
// in full. Foreign members that the policy brings from another file are added if this file has no
// member of that name. The file keeps its format; a new file gets the format of the file that the
// policy was loaded from, or else JSON. If nothing differs, Save writes nothing.
//
// Save refuses an invalid policy (see [Policy.Validate]). It also refuses to overwrite a file that
// [LoadPolicy] would refuse: the operator has to mend it by hand. An empty file counts as missing.
//
// Save replaces the file atomically, with a synced temporary file in the same directory. The file
// keeps its mode and, if it is a link, stays one. A new file has mode 0600, and new directories
// have mode 0700. Concurrent saves, in other processes too, wait for each other: they lock a file
// next to the policy whose name ends in ".lock". The last one removes the lock file if the system
// permits it. ErrConflict means that another process held the lock for 30 seconds. Other errors
// are those of LoadPolicy. A Save that fails leaves the file unchanged and no temporary file
// behind.
//
// Save does not change the policy and may be called concurrently.
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

// saveBase returns the document to change: that of the file, or the policy's own if there is no
// file.
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
	path  []string // of the enclosing object
	name  string
	value document.Literal
}

// carried returns the foreign members that the policy brings from another file and that base, the
// document at path, lacks. A member that the policy's own file has lost was removed on purpose.
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

// verify checks, before anything is written, that text decodes to the policy and has lost nothing
// of base.
func (p *Policy) verify(text []byte, base *document.Document) error {
	doc, settings, cause := parsePolicy(text)
	if cause != nil {
		return cause
	}
	if !settings.equal(p.Serverless) {
		return errors.New("the settings would not be read back unchanged")
	}
	after := Policy{source: &policySource{doc: doc}}.foreign()
	for path, value := range (Policy{source: &policySource{doc: base}}).foreign() {
		if after[path] != value {
			return fmt.Errorf("%s would not stay unchanged", path)
		}
	}
	return nil
}

// replaceFile replaces the file at path with text, completely or not at all.
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

// policyLockWait limits the wait for another Save. A save takes milliseconds, so a process that
// holds the lock for longer is stuck.
const policyLockWait = 30 * time.Second

// lockPolicy waits for the lock of the policy file at path. The returned function releases it.
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
	return func() { _ = lock.Release() }, nil // the policy is saved, and the lock ends with the process at the latest
}
