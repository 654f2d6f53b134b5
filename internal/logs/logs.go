// Package logs reads logs as sequences of lines. It merges them by time, cuts them to their last
// lines and follows them. It also keeps the last lines that processes wrote in memory.
package logs

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Lines is the result of faas.LogReader. An error is the last element.
type Lines = iter.Seq2[faas.LogLine, error]

// Fail returns a sequence that holds only an error.
func Fail(err error) Lines {
	return func(yield func(faas.LogLine, error) bool) { yield(faas.LogLine{}, err) }
}

// Time returns the time of a line, for Merge.
func Time(line faas.LogLine) time.Time { return line.Time }

// Merge returns the elements of finite sequences, sorted by time. Elements with the same time come
// in the order of the sequences. The first error ends the result.
func Merge[T any](at func(T) time.Time, seqs ...iter.Seq2[T, error]) iter.Seq2[T, error] {
	if len(seqs) == 1 {
		return seqs[0]
	}
	return func(yield func(T, error) bool) {
		type source struct {
			next func() (T, error, bool)
			head T
		}
		var zero T
		sources := make([]*source, 0, len(seqs))
		for _, seq := range seqs {
			next, stop := iter.Pull2(seq)
			defer stop()
			s := &source{next: next}
			head, err, ok := next()
			if err != nil {
				yield(zero, err)
				return
			}
			if ok {
				s.head = head
				sources = append(sources, s)
			}
		}
		for len(sources) > 0 {
			first := 0
			for i, s := range sources {
				if at(s.head).Before(at(sources[first].head)) {
					first = i
				}
			}
			s := sources[first]
			if !yield(s.head, nil) {
				return
			}
			head, err, ok := s.next()
			if err != nil {
				yield(zero, err)
				return
			}
			if s.head = head; !ok {
				sources = slices.Delete(sources, first, first+1)
			}
		}
	}
}

// Last returns the last n elements of a finite sequence, or all if n is 0. If there is an error, it
// comes alone.
func Last[T any](n int, seq iter.Seq2[T, error]) iter.Seq2[T, error] {
	if n == 0 {
		return seq
	}
	return func(yield func(T, error) bool) {
		last, err := collect(n, seq)
		if err != nil {
			var zero T
			yield(zero, err)
			return
		}
		for _, v := range last {
			if !yield(v, nil) {
				return
			}
		}
	}
}

// collect returns the last n elements, or all if n is 0.
func collect[T any](n int, seq iter.Seq2[T, error]) ([]T, error) {
	var all []T
	for v, err := range seq {
		if err != nil {
			return nil, err
		}
		all = append(all, v)
		if n > 0 && len(all) >= 2*n { // a copy for every n elements, and not for each
			all = append(all[:0], all[len(all)-n:]...)
		}
	}
	if n > 0 && len(all) > n {
		all = all[len(all)-n:]
	}
	return all, nil
}

// Ended returns the error of a sequence that its context ended.
func Ended(ctx context.Context, provider string) error {
	return faas.Errorf(faas.ErrTimeout, "logs", provider, "%w", context.Cause(ctx))
}
