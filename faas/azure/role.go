//go:build !faas_only || faas_azure

package azure

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
)

// blobOwner is the role "Storage Blob Data Owner", which the Functions host needs to keep its keys
// and locks.
const blobOwner = "b7e6dc6d-f1e8-4753-8033-0f276bb0955b"

// assignmentPath returns the path of the role assignment of an identity on the storage account. The
// assignment's name is a UUID that is the same on every call.
func (e *Executor) assignmentPath(principal string) string {
	sum := sha256.Sum256([]byte(strings.ToLower(e.accountPath()) + "\x00" + principal + "\x00" + blobOwner))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80 // version 8: of a kind of one's own
	id := fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
	return e.accountPath("providers/Microsoft.Authorization/roleAssignments", id)
}

func (c *convergence) grantTo(ctx context.Context, s *site) error {
	if s.Identity == nil || s.Identity.PrincipalID == "" {
		return faas.Errorf(faas.ErrUnsupported, "deploy", faas.AzureFunctions, "Azure gave app %s no identity", s.Name)
	}
	return c.grant(ctx, s.Identity.PrincipalID)
}

// grant lets an identity use the storage account. A new identity may be unknown for a while.
func (c *convergence) grant(ctx context.Context, principal string) error {
	var a roleAssignment
	a.Properties.RoleDefinitionID = "/subscriptions/" + url.PathEscape(c.subscription) +
		"/providers/Microsoft.Authorization/roleDefinitions/" + blobOwner
	a.Properties.PrincipalID = principal
	a.Properties.PrincipalType = "ServicePrincipal"
	w := c.wait(c.pace.role, "the app's identity could not be given a role")
	w.Absent = c.pace.appear
	return w.Until(ctx, func(ctx context.Context) error {
		err := c.call(ctx, http.MethodPut, c.assignmentPath(principal), rolesAPI, a, nil)
		if c.awaitsRole(err); azureCode(err) == "RoleAssignmentExists" {
			return nil
		}
		return err
	})
}

// awaitsRole reports whether a refusal came because a role or an identity has no effect yet, and
// records it.
func (c *convergence) awaitsRole(err error) bool {
	var vain *kit.WaitError
	if err == nil || judge(err).Class != kit.Settling || errors.As(err, &vain) {
		return false
	}
	c.late = err
	return true
}

// isLate reports whether the deadline has passed while only the role of the app's identity was
// missing. Another identity would have to wait for its role from the start.
func (c *convergence) isLate(ctx context.Context) bool {
	return c.late != nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded)
}

// explain adds to an error that the role is late.
func (c *convergence) explain(ctx context.Context, err error) error {
	if !c.isLate(ctx) {
		return err
	}
	return fmt.Errorf("the role of the app's identity on its storage account does not count yet, "+
		"which Azure documents to take up to 10 minutes: %w", err)
}

// revoke removes the roles that the app's identity was given on a storage account that stays. If
// the app was not seen, revoke finds the roles by their names, which are derived from the
// identities.
func (e *Executor) revoke(ctx context.Context, s *site) error {
	var roles []string
	if s != nil && s.Identity != nil && s.Identity.PrincipalID != "" {
		if s.Tags[tagAuth] == authIdentity {
			roles = append(roles, e.assignmentPath(s.Identity.PrincipalID))
		}
	} else {
		all, err := listAll[roleAssignment](ctx, e,
			e.accountPath("providers/Microsoft.Authorization/roleAssignments")+"?$filter=atScope()", rolesAPI)
		if err != nil && !isNotFound(err) && statusOf(err) != http.StatusForbidden {
			return err
		}
		for _, a := range all {
			if path := e.assignmentPath(a.Properties.PrincipalID); strings.EqualFold(a.ID, path) {
				roles = append(roles, path)
			}
		}
	}
	for _, path := range roles {
		if err := e.call(ctx, http.MethodDelete, path, rolesAPI, nil, nil); err != nil && !isNotFound(err) {
			return err
		}
	}
	return nil
}
