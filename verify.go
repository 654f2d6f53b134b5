package serverless

import (
	"fmt"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// BinaryVerdict is the result of comparing a binary with the published ones.
type BinaryVerdict string

// The verdicts.
const (
	BinaryMatches     BinaryVerdict = "match"       // its hash is published for its architecture
	BinaryDiffers     BinaryVerdict = "mismatch"    // other hashes are published for its architecture
	BinaryUnpublished BinaryVerdict = "unpublished" // there is nothing to compare it with
)

// BinaryCheck is the result of [VerifyBinary].
type BinaryCheck struct {
	Verdict BinaryVerdict `json:"verdict"`
	Path    string        `json:"path"`
	SHA256  string        `json:"sha256"`         // of the file
	OS      string        `json:"os,omitempty"`   // of the file; empty if unknown
	Arch    string        `json:"arch,omitempty"` // of the file; empty if unknown
	// Published holds the binaries that the file was compared with: the one that it matches, or else
	// all candidates.
	Published []PublishedBinary `json:"published,omitempty"`
	// Why explains the verdict in a sentence.
	Why string `json:"why"`
}

// String returns the verdict and the explanation.
func (c *BinaryCheck) String() string { return string(c.Verdict) + ": " + c.Why }

// Err returns an ErrInvalidArgument for a mismatch and nil for the other verdicts. The caller
// decides whether an unpublished binary is acceptable.
func (c *BinaryCheck) Err() error {
	if c.Verdict != BinaryDiffers {
		return nil
	}
	return faas.Errorf(faas.ErrInvalidArgument, "verify binary", "", "%s", c.Why)
}

// VerifyBinary compares the binary at path with the SHA-256 that the blueprint publishes for its
// architecture and operating system. It ignores hashes for other systems, which prove nothing
// about this file. If the file does not reveal its architecture, as with a script, any published
// hash may match.
//
// A match means that the file is the one that the blueprint's owner has published, provided that
// the node can be trusted. If the file cannot be read, the error is that of [faas.InspectBinary].
func VerifyBinary(meta *Metadata, path string) (*BinaryCheck, error) {
	file, err := faas.InspectBinary(path)
	if err != nil {
		return nil, err
	}
	check := &BinaryCheck{Verdict: BinaryUnpublished, Path: path, SHA256: file.SHA256, OS: file.OS,
		Arch: string(file.Arch)}
	switch {
	case meta == nil:
		check.Why = "there is no metadata, so there is nothing to compare " + path + " with"
		return check, nil
	case meta.Source == SourceMock:
		check.Why = "the metadata is made up, so there is nothing to compare " + path + " with"
		return check, nil
	case len(meta.Sources) == 0:
		check.Why = "the chain names no binary of the blueprint, so there is nothing to compare " + path + " with"
		return check, nil
	}
	others := 0
	for _, source := range meta.Sources {
		for _, published := range source.Binaries {
			switch {
			case published.SHA256 == "":
			case !published.fits(check.OS, check.Arch):
				others++
			case strings.EqualFold(published.SHA256, file.SHA256):
				check.Verdict, check.Published = BinaryMatches, []PublishedBinary{published}
				check.Why = fmt.Sprintf("%s is what the blueprint publishes for %s/%s", path, published.OS, published.Arch)
				return check, nil
			default:
				check.Published = append(check.Published, published)
			}
		}
	}
	if len(check.Published) == 0 {
		check.Why = fmt.Sprintf("the blueprint publishes no hash for %s, so there is nothing to compare %s with "+
			"(hashes for others: %d)", check.platform(), path, others)
		return check, nil
	}
	check.Verdict = BinaryDiffers
	check.Why = fmt.Sprintf("%s has the SHA-256 %s, and the blueprint publishes %s for %s", path, file.SHA256,
		check.hashes(), check.platform())
	return check, nil
}

// fits reports whether the binary may be meant for this system.
func (p PublishedBinary) fits(os, arch string) bool {
	osFits := os == "" || p.OS == os || p.OS == "unknown" || p.OS == "bsd" && strings.HasSuffix(os, "bsd")
	return osFits && (arch == "" || p.Arch == arch)
}

func (c *BinaryCheck) platform() string {
	if c.Arch == "" {
		return "any architecture"
	}
	if c.OS == "" {
		return c.Arch
	}
	return c.OS + "/" + c.Arch
}

// hashes lists the first few published hashes.
func (c *BinaryCheck) hashes() string {
	const most = 3
	var list []string
	for i, published := range c.Published {
		if i == most {
			list = append(list, fmt.Sprintf("%d more", len(c.Published)-most))
			break
		}
		list = append(list, published.SHA256)
	}
	return strings.Join(list, ", ")
}
