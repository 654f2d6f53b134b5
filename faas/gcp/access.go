//go:build !faas_only || faas_gcp

package gcp

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/transfer"
)

const (
	invokerRole = "roles/run.invoker"
	everybody   = "allUsers"
)

// policy reads who may do what with a Cloud Run service.
func (e *Executor) policy(ctx context.Context, r request, service string) (*iamPolicy, error) {
	r.method, r.url = http.MethodGet, e.set.runURL+"v2/"+service+":getIamPolicy?options.requestedPolicyVersion=3"
	var p iamPolicy
	if err := e.call(ctx, r, true, nil, &p); err != nil {
		return nil, err
	}
	return &p, nil
}

// granted reports whether all who are to invoke the service may.
func (e *Executor) granted(ctx context.Context, r request, service string) (bool, error) {
	p, err := e.policy(ctx, r, service)
	if err != nil {
		return false, err
	}
	return !p.add(e.set.members()), nil
}

// grant lets everybody or the invokers invoke the function, where that is asked for.
func (e *Executor) grant(ctx context.Context, r request, got *resource) error {
	members := e.set.members()
	if len(members) == 0 {
		return nil
	}
	if got.service == "" {
		return e.errorf(faas.ErrUnavailable, r, "function %s does not tell its Cloud Run service, so that nobody can be allowed to invoke it", got.name)
	}
	return e.changePolicy(ctx, r, got.service, func(p *iamPolicy) bool { return p.add(members) })
}

// maxSpread is how long a new policy usually takes at most to reach the front end.
const maxSpread = time.Minute

// awaitOpen waits until the front end knows that everybody may call a function. It runs no job. A front end that answers nobody from here, because of the
// ingress, is not waited for.
func (e *Executor) awaitOpen(ctx context.Context, r request, to string) {
	ctx, cancel := context.WithTimeout(ctx, maxSpread)
	defer cancel()
	r.method, r.url, r.within = http.MethodHead, to, maxSpread
	err := e.poll(ctx, r, "the policy spreads", func() (bool, error) {
		a, err := e.send(ctx, r)
		return err != nil || a.status != http.StatusUnauthorized && a.status != http.StatusForbidden, nil
	})
	if err != nil {
		e.log.Warn("everybody may call the function, which its front end does not know yet", "url", faas.RedactURL(to))
	}
}

// revoke takes away from everybody what an earlier deployment with option public gave. A function that was deployed with the same options
// costs no call.
func (e *Executor) revoke(ctx context.Context, r request, old *resource) error {
	if e.set.public || old.labels[labelOptions] == e.set.shape {
		return nil
	}
	err := e.changePolicy(ctx, r, old.service, func(p *iamPolicy) bool { return p.drop(everybody) })
	if code := faas.CodeOf(err); code == faas.ErrNotFound || code == faas.ErrUnsupported {
		return nil // a function that was never up has no service
	}
	return err
}

// changePolicy reads the policy, changes it and writes it back, again where somebody else changed it meanwhile.
func (e *Executor) changePolicy(ctx context.Context, r request, service string, change func(*iamPolicy) bool) error {
	for wait := firstWait; ; wait *= 2 {
		p, err := e.policy(ctx, r, service)
		if err != nil {
			return err
		}
		if !change(p) {
			return nil
		}
		set := r
		set.method, set.url = http.MethodPost, e.set.runURL+"v2/"+service+":setIamPolicy"
		err = e.call(ctx, set, false, map[string]any{"policy": p}, nil)
		if faas.CodeOf(err) != faas.ErrConflict || isPrecondition(err) || wait > maxPoll || !transfer.Sleep(ctx, wait) {
			return e.accessError(set, err)
		}
	}
}

// isPrecondition reports whether something stands in the way of a call that waiting does not change.
func isPrecondition(err error) bool {
	var api *APIError
	return errors.As(err, &api) && api.Status == "FAILED_PRECONDITION"
}

// accessError explains the usual refusals.
func (e *Executor) accessError(r request, err error) error {
	denied := faas.CodeOf(err) == faas.ErrPermissionDenied || faas.CodeOf(err) == faas.ErrInvalidArgument || isPrecondition(err)
	if err == nil || !denied {
		return err
	}
	return e.errorf(faas.ErrPermissionDenied, r, "let others invoke the function (options public and invokers): %w; an organization policy may forbid it "+
		"(constraints/iam.allowedPolicyMemberDomains): without these options, functions are invoked with the caller's own ID tokens", err)
}

// add adds members to those who may invoke, and reports whether any was missing.
func (p *iamPolicy) add(members []string) bool {
	var binding *iamBinding
	for _, b := range p.Bindings {
		if b.Role == invokerRole && len(b.Condition) == 0 {
			binding = b
		}
	}
	changed := false
	for _, m := range members {
		if binding != nil && slices.Contains(binding.Members, m) {
			continue
		}
		if binding == nil {
			binding = &iamBinding{Role: invokerRole}
			p.Bindings = append(p.Bindings, binding)
		}
		binding.Members = append(binding.Members, m)
		changed = true
	}
	return changed
}

// drop takes a member from those who may invoke, and reports whether it was there.
func (p *iamPolicy) drop(member string) bool {
	changed := false
	for _, b := range p.Bindings {
		if i := slices.Index(b.Members, member); i >= 0 && b.Role == invokerRole {
			b.Members = slices.Delete(b.Members, i, i+1)
			changed = true
		}
	}
	p.Bindings = slices.DeleteFunc(p.Bindings, func(b *iamBinding) bool { return len(b.Members) == 0 })
	return changed
}

// UnmarshalJSON reads a policy. Version 3 is what conditions need, and what is written back.
func (p *iamPolicy) UnmarshalJSON(text []byte) error {
	type plain iamPolicy
	if err := json.Unmarshal(text, (*plain)(p)); err != nil {
		return err
	}
	for _, b := range p.Bindings {
		if strings.TrimSpace(string(b.Condition)) == "null" {
			b.Condition = nil
		}
	}
	return nil
}
