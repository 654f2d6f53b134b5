package runner

import "context"

// Signer signs for one account. Implementations are safe for concurrent use. Sign returns r, s and
// v, where v is 0 or 1, of a signature of the digest with low s.
type Signer interface {
	Address() [20]byte
	Sign(ctx context.Context, digest [32]byte) ([65]byte, error)
}
