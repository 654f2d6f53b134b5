//go:build !faas_only || faas_gcp

package gcp

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	run "google.golang.org/api/run/v2"

	"github.com/tangle-network/blueprint-serverless/faas"
)

const (
	invokerRole = "roles/run.invoker"
	everybody   = "allUsers"
)

// policy says who may do what with a Cloud Run service. It is kept as Google wrote it, because it
// is written back whole.
type policy map[string]any

// policy reads the policy of a Cloud Run service. Conditions require version 3.
func (e *Executor) policy(ctx context.Context, r request, service string) (policy, error) {
	x, err := e.call(ctx, r, true, func(ctx context.Context) error {
		_, err := e.run.Services.GetIamPolicy(service).OptionsRequestedPolicyVersion(3).Context(ctx).Do()
		return err
	})
	if err != nil {
		return nil, err
	}
	return policy(document(x.body)), nil
}

// granted reports whether all members that the options name may invoke the service.
func (e *Executor) granted(ctx context.Context, r request, service string) (bool, error) {
	p, err := e.policy(ctx, r, service)
	if faas.CodeOf(err) == faas.ErrNotFound {
		return false, nil // which does not say that there is no function
	}
	if err != nil {
		return false, err
	}
	return !p.add(e.set.members()), nil
}

// grant lets everybody or the invokers call the function if the options ask for that, and reports
// whether some of them could not before.
func (e *Executor) grant(ctx context.Context, r request, got *resource) (bool, error) {
	members := e.set.members()
	if len(members) == 0 {
		return false, nil
	}
	if got.service == "" {
		return false, e.errorf(faas.ErrUnavailable, r,
			"function %s does not name its Cloud Run service, so nobody can be allowed to invoke it", got.name)
	}
	return e.changePolicy(ctx, r, got, true, func(p policy) bool { return p.add(members) })
}

// maxSpread is how long a new policy usually takes at most to reach the front end.
const maxSpread = time.Minute

// awaitOpen waits until the front end knows that everybody, or the caller as one of the invokers,
// may call a function. It runs no job. It does not wait if the ingress setting keeps the front end
// from answering here, or if the caller is not one of the invokers or cannot show that it is.
func (e *Executor) awaitOpen(ctx context.Context, r request, to string) {
	ctx, cancel := context.WithTimeout(ctx, maxSpread)
	defer cancel()
	r.method, r.url, r.within = http.MethodHead, to, maxSpread
	if !e.set.public {
		r.bearer = e.idToken(to)
	}
	if r.bearer != nil {
		token, err := r.bearer(ctx)
		if err != nil || !e.set.mayInvoke(emailOf(token)) {
			return
		}
	}
	err := e.poll(ctx, r, "the policy spreads", func() (bool, error) {
		a, err := e.send(ctx, r)
		return err != nil || a.status != http.StatusUnauthorized && a.status != http.StatusForbidden, nil
	})
	if err != nil {
		e.log.Warn("the function's front end does not know yet who may invoke it", "url", faas.RedactURL(to))
	}
}

// mayInvoke reports whether option invokers names the owner of an email address, or may do so: the
// members of a group are unknown.
func (s *settings) mayInvoke(email string) bool {
	return email == "" || slices.ContainsFunc(s.invokers, func(member string) bool {
		kind, name, _ := strings.Cut(member, ":")
		return kind != "user" && kind != "serviceAccount" || strings.EqualFold(name, email)
	})
}

// revoke withdraws the access of everybody that an earlier deployment with option public granted.
// If the function was deployed with the same options, revoke sends nothing.
func (e *Executor) revoke(ctx context.Context, r request, old *resource) error {
	if e.set.public || old.labels[labelOptions] == e.set.shape {
		return nil
	}
	_, err := e.changePolicy(ctx, r, old, false, func(p policy) bool { return p.drop(everybody) })
	if code := faas.CodeOf(err); code == faas.ErrNotFound || code == faas.ErrUnsupported {
		return nil // a function that was never up has no service
	}
	return err
}

// invokersBack restores who could invoke a function before this executor changed that.
func (e *Executor) invokersBack(ctx context.Context, r request, was *reading, now *resource) error {
	if was == nil || was.invokers == nil || now.service == "" {
		return nil
	}
	added := slices.DeleteFunc(append([]string{everybody}, e.set.members()...),
		func(m string) bool { return slices.Contains(*was.invokers, m) })
	_, err := e.changePolicy(ctx, r, now, true, func(p policy) bool {
		changed := p.add(*was.invokers)
		for _, member := range added {
			changed = p.drop(member) || changed
		}
		return changed
	})
	return err
}

// changePolicy reads the policy of a function's service, changes it and writes it back. It does so
// again if somebody else changed the policy meanwhile or no answer came. It reports whether there
// was anything to change. fresh says that the service may be too new to have a policy.
func (e *Executor) changePolicy(ctx context.Context, r request, of *resource, fresh bool,
	change func(policy) bool) (bool, error) {
	changed := false
	err := e.rounds(ctx, r, nil, func() error {
		var p policy
		err := e.poll(ctx, r, "service "+of.service+" has no policy", func() (bool, error) {
			var err error
			p, err = e.policy(ctx, r, of.service)
			return !fresh || faas.CodeOf(err) != faas.ErrNotFound, err
		})
		if err != nil {
			return err
		}
		before := p.members()
		if !change(p) {
			return nil
		}
		changed = true
		e.memory(of.id).keepInvokers(before)
		body, err := json.Marshal(map[string]any{"policy": p})
		if err != nil {
			return e.errorf(faas.ErrInternal, r, "%w", err)
		}
		_, err = e.callWith(ctx, r, false, body, func(ctx context.Context) error {
			_, err := e.run.Services.SetIamPolicy(of.service, &run.GoogleIamV1SetIamPolicyRequest{}).Context(ctx).Do()
			return err
		})
		return err
	})
	return changed, e.accessError(r, err)
}

// accessError explains the usual refusals.
func (e *Executor) accessError(r request, err error) error {
	if code := faas.CodeOf(err); code != faas.ErrPermissionDenied && code != faas.ErrInvalidArgument {
		return err
	}
	return e.errorf(faas.ErrPermissionDenied, r,
		"let others invoke the function (options public and invokers): %w; an organization policy may forbid it "+
			"(constraints/iam.allowedPolicyMemberDomains): without these options, functions are invoked with the caller's "+
			"own ID tokens", err)
}

// invokers returns the bindings that let somebody invoke the service. Those with a condition come
// last, or are left out.
func (p policy) invokers(conditions bool) []map[string]any {
	var plain, bound []map[string]any
	all, _ := p["bindings"].([]any)
	for _, one := range all {
		b, _ := one.(map[string]any)
		switch {
		case b["role"] != invokerRole:
		case b["condition"] == nil:
			plain = append(plain, b)
		case conditions:
			bound = append(bound, b)
		}
	}
	return append(plain, bound...)
}

func membersOf(binding map[string]any) []string {
	if changed, ok := binding["members"].([]string); ok {
		return changed
	}
	all, _ := binding["members"].([]any)
	members := []string{}
	for _, one := range all {
		if name, ok := one.(string); ok {
			members = append(members, name)
		}
	}
	return members
}

// members returns who may invoke.
func (p policy) members() []string {
	members := []string{}
	for _, b := range p.invokers(false) {
		members = append(members, membersOf(b)...)
	}
	return members
}

// add adds members to those who may invoke, and reports whether any was missing.
func (p policy) add(members []string) bool {
	has := p.members()
	missing := slices.DeleteFunc(slices.Clone(members), func(m string) bool { return slices.Contains(has, m) })
	if len(missing) == 0 {
		return false
	}
	if bindings := p.invokers(false); len(bindings) > 0 {
		bindings[0]["members"] = append(membersOf(bindings[0]), missing...)
		return true
	}
	all, _ := p["bindings"].([]any)
	p["bindings"] = append(all, map[string]any{"role": invokerRole, "members": missing})
	return true
}

// drop removes a member from those who may invoke, and reports whether it was there.
func (p policy) drop(member string) bool {
	changed := false
	for _, b := range p.invokers(true) {
		members := membersOf(b)
		if left := slices.DeleteFunc(slices.Clone(members), func(m string) bool { return m == member }); len(left) < len(
			members) {
			b["members"] = left
			changed = true
		}
	}
	if all, ok := p["bindings"].([]any); ok && changed {
		p["bindings"] = slices.DeleteFunc(all, func(one any) bool {
			b, _ := one.(map[string]any)
			members, plain := b["members"].([]string)
			return plain && len(members) == 0
		})
	}
	return changed
}
