package httputil

import (
	"io"
	"sync"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Progress reports how far a deployment is. After Stop it reports nothing more, even if a transport
// still reads. A nil Progress reports nothing. It is safe for concurrent use.
type Progress struct {
	mu     sync.Mutex
	report func(faas.Progress)
	now    faas.Progress
	told   int64
}

// reportEvery is how many bytes lie between two reports.
const reportEvery = 512 << 10

// NewProgress returns a Progress that calls report, unless it is nil, for a deployment whose
// package has total bytes.
func NewProgress(report func(faas.Progress), total int64) *Progress {
	return &Progress{report: report, now: faas.Progress{TotalBytes: total}}
}

// Stop ends the reports. After it has returned, no report comes.
func (p *Progress) Stop() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.report = nil
}

// Step reports the beginning of a step, unless it was reported already.
func (p *Progress) Step(name string) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now.Step != name {
		p.now.Step = name
		p.tell()
	}
}

// tell calls report. The caller holds the lock.
func (p *Progress) tell() {
	p.told = p.now.Bytes
	if p.report != nil {
		p.report(p.now)
	}
}

// Upload begins the step "upload" and returns a body that counts, from zero, what is read of it.
func (p *Progress) Upload(body io.ReadCloser) io.ReadCloser {
	if p == nil {
		return body
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.Step, p.now.Bytes, p.told = "upload", 0, 0
	return &tracked{body, p}
}

// tracked reports what is read of a body.
type tracked struct {
	io.ReadCloser
	p *Progress
}

func (b *tracked) Read(buf []byte) (int, error) {
	n, err := b.ReadCloser.Read(buf)
	p := b.p
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.Bytes += int64(n)
	if n > 0 && (p.now.Bytes-p.told >= reportEvery || p.now.Bytes == p.now.TotalBytes) {
		p.tell()
	}
	return n, err
}
