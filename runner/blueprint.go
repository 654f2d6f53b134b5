package runner

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
	"github.com/tangle-network/blueprint-serverless/runner/codec"
	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
)

// blueprint is what the chain says of the service's blueprint.
type blueprint struct {
	id      uint64
	results map[uint32]*codec.Schema // of results, by job
}

// check tells whether the contract would take an output.
func (b *blueprint) check(job uint32, output []byte) error {
	if schema := b.results[job]; schema != nil {
		return schema.Check(output)
	}
	return nil
}

// prepare reads the blueprint, and logs what will not work.
func (r *Runner) prepare(ctx context.Context, c *chain.Chain) (*blueprint, error) {
	service, err := c.Service(ctx, r.config.ServiceID)
	if err != nil {
		return nil, err
	}
	b := &blueprint{id: r.config.BlueprintID, results: map[uint32]*codec.Schema{}}
	warn := func(format string, args ...any) { r.options.logger.Warn(fmt.Sprintf(format, args...)) }
	if service.CreatedAt != 0 && service.Blueprint != b.id {
		warn("service %d is of blueprint %d, and not of %d", r.config.ServiceID, service.Blueprint, b.id)
		b.id = service.Blueprint
	}
	jobs, err := c.Jobs(ctx, b.id)
	var refused *chain.Revert
	var layout *tangle.UnknownLayoutError
	var malformed *tangle.DecodeError
	switch {
	case errors.As(err, &refused), errors.As(err, &layout), errors.As(err, &malformed):
		warn("the schemas of results are not known: blueprint %d: %v", b.id, err)
	case err != nil:
		return nil, err
	}
	var here []uint8
	for i, j := range jobs {
		id := uint32(i)
		if r.schedule.lanes[id] == nil {
			warn("job %d has neither a handler nor a function: this runner answers no call of it", id)
			continue
		}
		here = append(here, uint8(id))
		if b.results[id], err = codec.Parse(j.ResultSchema); err != nil {
			warn("job %d: the contract takes no result, because its schema of results is malformed: %v", id, err)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(r.schedule.lanes)) {
		if len(jobs) > 0 && id >= uint32(len(jobs)) {
			warn("blueprint %d has no job %d", b.id, id)
		}
	}
	rules, err := c.JobRules(ctx, r.config.ServiceID, here)
	if err != nil {
		return nil, err
	}
	for i, rule := range rules {
		if rule.Aggregated && r.options.aggregator == nil {
			warn("job %d needs results with the signatures of several operators, and this runner has no aggregator: the job "+
				"is not run", here[i])
		}
	}
	return b, nil
}
