// Package tangletest simulates the contract and a node for tests and examples.
package tangletest

import (
	"encoding/binary"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

const wordSize = 32

// part is a member of a tuple: a word in the head, or a tail that the head refers to.
type part struct {
	head []byte
	tail []byte
}

// tuple encodes members according to the ABI. An array is its length followed by the tuple of its
// elements.
func tuple(parts ...part) []byte {
	size := 0
	for _, p := range parts {
		size += len(p.head)
		if p.head == nil {
			size += wordSize
		}
	}
	var heads, tails []byte
	for _, p := range parts {
		if p.head != nil {
			heads = append(heads, p.head...)
			continue
		}
		heads = append(heads, number(uint64(size+len(tails))).head...)
		tails = append(tails, p.tail...)
	}
	return append(heads, tails...)
}

func number(n uint64) part {
	return part{head: binary.BigEndian.AppendUint64(make([]byte, wordSize-8, wordSize), n)}
}

func word(w tangle.Word) part { return part{head: w[:]} }

func address(a tangle.Address) part {
	return part{head: append(make([]byte, wordSize-len(a)), a[:]...)}
}

func boolean(b bool) part {
	if b {
		return number(1)
	}
	return number(0)
}

func text(s string) part {
	padded := make([]byte, (len(s)+wordSize-1)/wordSize*wordSize)
	copy(padded, s)
	return part{tail: append(number(uint64(len(s))).head, padded...)}
}

func blob(b []byte) part { return text(string(b)) }

func dynamic(parts ...part) part { return part{tail: tuple(parts...)} }

func array[T any](elements []T, encode func(T) part) part {
	parts := make([]part, len(elements))
	for i, element := range elements {
		parts[i] = encode(element)
	}
	return part{tail: append(number(uint64(len(elements))).head, tuple(parts...)...)}
}

// EncodeDefinition returns the definition as a contract with its layout returns it.
func EncodeDefinition(d *tangle.Definition) []byte {
	parts := []part{text(d.MetadataURI)}
	if d.Layout != tangle.LayoutA {
		parts = append(parts, word(d.MetadataHash))
	}
	t := d.Metadata
	parts = append(parts,
		address(d.Manager), number(uint64(d.MasterManagerRevision)), boolean(d.HasConfig),
		number(uint64(d.Config.Membership)), number(uint64(d.Config.Pricing)), number(uint64(d.Config.MinOperators)),
		number(uint64(d.Config.MaxOperators)),
		word(d.Config.SubscriptionRate), number(d.Config.SubscriptionInterval), word(d.Config.EventRate),
		dynamic(text(t.Name), text(t.Description), text(t.Author), text(t.Category), text(t.CodeRepository), text(t.Logo),
			text(t.Website), text(t.License),
			text(t.ProfilingData)),
		array(d.Jobs, func(j tangle.Job) part {
			return dynamic(text(j.Name), text(j.Description), text(j.MetadataURI), blob(j.ParamsSchema), blob(j.ResultSchema))
		}),
		blob(d.RegistrationSchema), blob(d.RequestSchema),
		sources(d.Sources),
		array(d.SupportedMemberships, func(m uint8) part { return number(uint64(m)) }),
	)
	return tuple(dynamic(parts...))
}

// EncodeSources returns the data of the event that records the sources.
func EncodeSources(list []tangle.Source) []byte { return tuple(sources(list)) }

func sources(list []tangle.Source) part {
	return array(list, func(s tangle.Source) part {
		return dynamic(
			number(uint64(s.Kind)),
			dynamic(text(s.Container.Registry), text(s.Container.Image), text(s.Container.Tag)),
			dynamic(number(uint64(s.Wasm.Runtime)), number(uint64(s.Wasm.Fetcher)), text(s.Wasm.ArtifactURI),
				text(s.Wasm.Entrypoint)),
			dynamic(number(uint64(s.Native.Fetcher)), text(s.Native.ArtifactURI), text(s.Native.Entrypoint)),
			dynamic(text(s.Testing.CargoPackage), text(s.Testing.CargoBin), text(s.Testing.BasePath)),
			array(s.Binaries, func(b tangle.Binary) part {
				return dynamic(number(uint64(b.Arch)), number(uint64(b.OS)), text(b.Name), word(b.SHA256))
			}))
	})
}

// EncodeStatus returns the result of getBlueprint.
func EncodeStatus(s tangle.Status) []byte {
	return tuple(address(s.Owner), address(s.Manager), number(s.CreatedAt), number(uint64(s.Membership)),
		number(uint64(s.Pricing)), boolean(s.Active))
}

// EncodeRequirements returns the result of getBlueprintResourceRequirements.
func EncodeRequirements(list []tangle.Requirement) []byte {
	return tuple(array(list, func(r tangle.Requirement) part {
		return part{head: append(number(uint64(r.Kind)).head, number(r.Count).head...)}
	}))
}

// EncodeBytes returns one encoded byte string: the data of the event that records the definition.
func EncodeBytes(b []byte) []byte { return tuple(blob(b)) }
