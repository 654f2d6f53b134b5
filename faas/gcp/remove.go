//go:build !faas_only || faas_gcp

package gcp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
)

// bounded limits a change of a function, whatever the caller's deadline.
func (e *Executor) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, e.set.deployTimeout, errTooLong)
}

var errTooLong = errors.New("it took longer than option ready_timeout_secs allows")

// Remove deletes the function, and also its built images if option remove_artifacts is set. It
// sends the deletion even if a look finds no function, because not all of Google's replicas are
// equally new.
func (e *Executor) Remove(ctx context.Context, id string) error {
	ctx, cancel := e.bounded(ctx)
	defer cancel()
	r := request{op: "remove", job: faas.NoJob}
	err := e.rounds(ctx, r, nil, func() error {
		_, err := e.settled(ctx, r, id, nil) // a function of another service must not be deleted
		if err != nil && faas.CodeOf(err) != faas.ErrNotFound {
			return err
		}
		if _, ours := kit.CloudRunNames.Job(e.set.service, id); err != nil && !ours {
			return nil
		}
		if err := e.host.remove(ctx, r, id); err != nil && faas.CodeOf(err) != faas.ErrNotFound {
			return err
		}
		return e.gone(ctx, r, id)
	})
	if err != nil {
		return e.unsettled(id, err)
	}
	if err := e.removeArtifacts(ctx, r, id); err != nil {
		return err
	}
	return e.removePackages(ctx, r)
}

// errAppeared says that a function came into being during the wait for its deletion.
var errAppeared = &refusal{status: "ABORTED", message: "it was created while it was being removed"}

// gone waits until the function does not exist any more. If a creation was sent and never answered,
// it also waits whether that still takes effect.
func (e *Executor) gone(ctx context.Context, r request, id string) error {
	if job, ok := kit.CloudRunNames.Job(e.set.service, id); ok {
		e.routes.Delete(job)
	}
	err := e.poll(ctx, r, "function "+id+" is being deleted", func() (bool, error) {
		_, err := e.host.get(ctx, r, id)
		if faas.CodeOf(err) == faas.ErrNotFound {
			return true, nil
		}
		return false, err
	})
	if err != nil || !e.memory(id).doubts() {
		return err
	}
	until := time.Now().Add(lateTime)
	err = e.poll(ctx, r, "a creation of "+id+" that was not answered may take effect", func() (bool, error) {
		_, err := e.host.get(ctx, r, id)
		if err == nil {
			return true, e.fail(r, errAppeared, fmt.Errorf("function %s: %w", id, errAppeared))
		}
		if faas.CodeOf(err) == faas.ErrNotFound {
			err = nil
		}
		return time.Now().After(until), err
	})
	if err == nil {
		e.memory(id).trust()
	}
	return err
}

// lateTime is how long a request that was not answered usually takes at most to become visible.
const lateTime = 10 * time.Second

// removeArtifacts removes the images that Cloud Build made of a function.
func (e *Executor) removeArtifacts(ctx context.Context, r request, id string) error {
	if !e.set.removeArtifacts || e.set.mode != modeBuild {
		return nil
	}
	if _, ok := kit.CloudRunNames.Job(e.set.service, id); !ok {
		return nil
	}
	repository := e.set.repository
	if repository == "" {
		repository = e.set.parent() + "/repositories/gcf-artifacts"
	}
	double := func(text string) string { return strings.ReplaceAll(text, "-", "--") } // as Google forms the name
	name := double(e.set.project) + "__" + double(e.set.region) + "__" + double(id)
	_, err := e.call(ctx, r, true, func(ctx context.Context) error {
		_, err := e.artifacts.Delete(repository + "/packages/" + name).Context(ctx).Do()
		return err
	})
	if faas.CodeOf(err) == faas.ErrNotFound {
		return nil
	}
	return err
}
