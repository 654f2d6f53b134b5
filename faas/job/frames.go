package job

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/frame"
)

// framesServer is the process's side of the frame protocol.
type framesServer struct {
	*process
	r *frame.Reader
	w *frame.Writer

	mu      sync.Mutex
	cancels map[uint64]context.CancelFunc // of the calls in flight
	running sync.WaitGroup
}

// serveFrames serves calls until the end of the input, and then waits for those in flight.
func (p *process) serveFrames(ctx context.Context) error {
	s := &framesServer{
		process: p,
		r:       frame.NewReader(p.stdin, 0),
		w:       frame.NewWriter(p.stdout),
		cancels: map[uint64]context.CancelFunc{},
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := s.w.Write(frame.Header{Kind: frame.Hello, Value: uint32(p.concurrency)}, nil); err != nil {
		return fmt.Errorf("greeting the host: %w", err)
	}
	err := s.read(ctx)
	if err != nil {
		cancel() // the host is gone or mad: nobody waits for the calls in flight
	}
	s.running.Wait()
	if err == nil {
		err = s.w.Flush()
	}
	if err != nil {
		return fmt.Errorf("speaking frames with the host: %w", err)
	}
	return nil
}

// read handles frames until the end of the input.
func (s *framesServer) read(ctx context.Context) error {
	for {
		h, err := s.r.Next()
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		switch h.Kind {
		case frame.Call:
			if err := s.start(ctx, h); err != nil {
				return err
			}
			if !s.r.Ready() {
				// The next read may block this thread; short calls are done sooner if they need no other thread to be woken for them.
				runtime.Gosched()
			}
		case frame.Cancel:
			s.mu.Lock()
			cancel := s.cancels[h.ID]
			s.mu.Unlock()
			if cancel != nil {
				cancel()
			}
		case frame.Ping:
			if err := s.w.Write(frame.Header{Kind: frame.Pong, ID: h.ID}, nil); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%w: a frame of kind %d from the host", frame.ErrProtocol, h.Kind)
		}
	}
}

// start starts a call.
func (s *framesServer) start(ctx context.Context, h frame.Header) error {
	args, err := s.r.Body(nil)
	if err != nil {
		return err
	}
	j, fail := s.find(h.Value)
	if fail != nil {
		return s.reply(h.ID, nil, fail)
	}
	var cancel context.CancelFunc
	if h.DeadlineMS > 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(h.DeadlineMS)*time.Millisecond)
	} else {
		ctx, cancel = context.WithCancel(ctx)
	}
	s.mu.Lock()
	_, dup := s.cancels[h.ID]
	if !dup {
		s.cancels[h.ID] = cancel
	}
	s.mu.Unlock()
	if dup {
		cancel()
		return fmt.Errorf("%w: call id %d is in use", frame.ErrProtocol, h.ID)
	}
	s.running.Add(1)
	go func() {
		defer s.running.Done()
		s.run(ctx, j, args, func(output []byte, fail *failure) {
			s.mu.Lock()
			delete(s.cancels, h.ID)
			s.mu.Unlock()
			cancel()
			// An error is the Writer's to keep: the host is gone, and read will see its input end.
			_ = s.reply(h.ID, output, fail)
		})
	}()
	return nil
}

// reply answers a call.
func (s *framesServer) reply(id uint64, output []byte, fail *failure) error {
	if fail == nil {
		err := s.w.Write(frame.Header{Kind: frame.Result, ID: id}, output)
		if !errors.Is(err, frame.ErrTooLarge) {
			return err
		}
		fail = &failure{frame.TooLarge, fmt.Sprintf("the output has %d bytes, the limit is %d", len(output), frame.MaxBody)}
	}
	message := fail.message
	if len(message) > maxMessage {
		message = message[:maxMessage]
	}
	return s.w.Write(frame.Header{Kind: frame.Failure, ID: id, Value: uint32(fail.code)}, []byte(message))
}

// maxMessage bounds the message of a failure, in bytes.
const maxMessage = 64 << 10
