package serverless

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/document"
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
