package serverless

import (
	"context"
	"iter"
	"slices"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/logseq"
)

// Logs returns what the service's jobs printed, in the order of time: the lines of its functions, and those of its runner if that is a [faas.LogReader]. See
// [faas.LogReader] for what a sequence promises, and [faas.LogQuery] for what can be asked for. A query without JobIDs asks for all of the service.
//
// A runner is one process for all local jobs, so that its lines carry faas.NoJob and come with any of them. A [LocalOrchestrator] keeps the last 1,000 lines and 64 KiB in memory for the program that started the
// runner; of a detached one, other programs read the files of LogDir, whose lines have no time until they are followed. With Follow, Limit counts for functions and runner each.
//
// Codes besides those of faas.LogReader: ErrNotFound for a job that the service does not have, ErrUnsupported where a job is named, or there is nothing else, whose lines nobody keeps, ErrUnavailable for a service that was
// undeployed or closed.
func (s *Service) Logs(ctx context.Context, q faas.LogQuery) iter.Seq2[faas.LogLine, error] {
	if err := s.usable("logs"); err != nil {
		return logseq.Fail(err)
	}
	onFaaS, fromRunner, err := s.logSources(q.JobIDs)
	if err != nil {
		return logseq.Fail(err)
	}
	var sources []func(context.Context) logseq.Lines
	ask := func(from faas.LogReader, jobs []uint32) error {
		part := q
		part.JobIDs = jobs
		if err := part.Check(s.location.Provider); err != nil {
			return err
		}
		sources = append(sources, func(ctx context.Context) logseq.Lines {
			return func(yield func(faas.LogLine, error) bool) {
				for line, err := range from.Logs(ctx, part) {
					if !yield(line, s.named(err)) {
						return
					}
				}
			}
		})
		return nil
	}
	if len(onFaaS) > 0 {
		if err := ask(s.exec, onFaaS); err != nil {
			return logseq.Fail(err)
		}
	}
	if reader, ok := s.getRunner().(faas.LogReader); ok && fromRunner {
		jobs := s.strategy.LocalJobs
		if len(q.JobIDs) > 0 {
			jobs = q.JobIDs
		}
		if len(jobs) == 0 { // a runner that delegates everything
			jobs = []uint32{0}
		}
		if err := ask(reader, jobs); err != nil {
			return logseq.Fail(err)
		}
	}
	switch {
	case len(sources) == 0:
		return logseq.Fail(faas.Errorf(faas.ErrUnsupported, "logs", s.location.Provider,
			"service %q has no functions, and nothing keeps what its runner prints", s.spec.Name))
	case q.Follow:
		return logseq.Join(ctx, s.location.Provider, sources...)
	}
	seqs := make([]logseq.Lines, len(sources))
	for i, source := range sources {
		seqs[i] = source(ctx)
	}
	return logseq.Last(q.Limit, logseq.Merge(logseq.Time, seqs...))
}

// logSources says which functions' lines are wanted, and whether the runner's are.
func (s *Service) logSources(jobs []uint32) (onFaaS []uint32, fromRunner bool, err error) {
	if len(jobs) == 0 {
		return s.functions.Jobs(), true, nil
	}
	for _, jobID := range jobs {
		if _, ok := s.functions.Lookup(jobID); ok {
			onFaaS = append(onFaaS, jobID)
			continue
		}
		if !s.anyLocal && !slices.Contains(s.strategy.LocalJobs, jobID) {
			return nil, false, faas.JobErrorf(faas.ErrNotFound, "logs", "", jobID,
				"service %q has no such job (on FaaS: %v, local: %v)", s.spec.Name, s.strategy.FaaSJobs, s.strategy.LocalJobs)
		}
		fromRunner = true
		if _, ok := s.getRunner().(faas.LogReader); ok {
			continue
		}
		if s.getRunner() == nil {
			return nil, false, faas.JobErrorf(faas.ErrUnsupported, "logs", "", jobID,
				"the job is run by the program that deployed the service, which alone knows what it printed")
		}
		return nil, false, faas.JobErrorf(faas.ErrUnsupported, "logs", "", jobID,
			"the job is run beside FaaS, by a runner that keeps no lines")
	}
	return onFaaS, fromRunner, nil
}
