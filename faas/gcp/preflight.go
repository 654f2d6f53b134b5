//go:build !faas_only || faas_gcp

package gcp

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Preflight finds out whether the project can be deployed to, and changes nothing. The error names every API that is not enabled and every permission that is
// missing, each with the gcloud command that mends it. It is ErrPermissionDenied, or the error of a call that told nothing.
func (e *Executor) Preflight(ctx context.Context) error {
	r := request{op: "preflight", job: faas.NoJob}
	var trouble []string
	apis, err := e.missingAPIs(ctx, r)
	if err != nil {
		return err
	}
	for _, api := range apis {
		trouble = append(trouble, "API "+api+" is not enabled: "+e.enableCommand(api))
	}
	permissions, err := e.missingPermissions(ctx, r)
	if err != nil {
		return err
	}
	byRole := map[string][]string{}
	var order []string
	for _, permission := range permissions {
		role := roleFor(permission)
		if byRole[role] == nil {
			order = append(order, role)
		}
		byRole[role] = append(byRole[role], permission)
	}
	for _, role := range order {
		trouble = append(trouble, "permission "+strings.Join(byRole[role], ", ")+" is missing: "+e.grantCommand(role))
	}
	if len(trouble) > 0 {
		return e.errorf(faas.ErrPermissionDenied, r, "project %s cannot be deployed to: %s", e.set.project, strings.Join(trouble, "; "))
	}
	return nil
}

// needs returns the APIs and the permissions on the project that the mode takes.
func (e *Executor) needs() (apis, permissions []string) {
	if e.set.mode == modeRun {
		apis = []string{"run.googleapis.com", "storage.googleapis.com"}
		permissions = []string{"run.services.create", "run.services.get", "run.services.list", "run.services.update", "run.services.delete", "run.operations.get"}
	} else {
		apis = []string{"cloudfunctions.googleapis.com", "run.googleapis.com", "cloudbuild.googleapis.com", "artifactregistry.googleapis.com"}
		permissions = []string{
			"cloudfunctions.functions.create", "cloudfunctions.functions.get", "cloudfunctions.functions.list", "cloudfunctions.functions.update",
			"cloudfunctions.functions.delete", "cloudfunctions.functions.sourceCodeSet", "cloudfunctions.operations.get", "cloudfunctions.runtimes.list",
		}
	}
	permissions = append(permissions, "iam.serviceAccounts.actAs")
	if len(e.set.members()) > 0 {
		permissions = append(permissions, "run.services.getIamPolicy", "run.services.setIamPolicy")
	}
	if !e.set.public && !e.set.noCredentials {
		permissions = append(permissions, "run.routes.invoke")
	}
	return apis, permissions
}

func (e *Executor) missingAPIs(ctx context.Context, r request) ([]string, error) {
	apis, _ := e.needs()
	query := url.Values{}
	for _, api := range apis {
		query.Add("names", "projects/"+e.set.project+"/services/"+api)
	}
	r.method, r.url = http.MethodGet, e.set.usageURL+"v1/projects/"+e.set.project+"/services:batchGet?"+query.Encode()
	var got struct {
		Services []struct {
			Name  string `json:"name"`
			State string `json:"state"`
		} `json:"services"`
	}
	if err := e.call(ctx, r, true, nil, &got); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(apis, func(api string) bool {
		for _, s := range got.Services {
			if s.State == "ENABLED" && lastSegment(s.Name) == api {
				return true
			}
		}
		return false
	}), nil
}

// missingPermissions asks for the project as a whole. A permission that is held on a single resource of it alone counts as missing.
func (e *Executor) missingPermissions(ctx context.Context, r request) ([]string, error) {
	_, permissions := e.needs()
	r.method, r.url = http.MethodPost, e.set.projectsURL+"v1/projects/"+e.set.project+":testIamPermissions"
	var got struct {
		Permissions []string `json:"permissions"`
	}
	if err := e.call(ctx, r, true, map[string]any{"permissions": permissions}, &got); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(permissions, func(p string) bool { return slices.Contains(got.Permissions, p) }), nil
}
