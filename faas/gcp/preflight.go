//go:build !faas_only || faas_gcp

package gcp

import (
	"context"
	"slices"
	"strings"

	cloudresourcemanager "google.golang.org/api/cloudresourcemanager/v1"
	serviceusage "google.golang.org/api/serviceusage/v1"
	"google.golang.org/api/storage/v1"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Preflight checks whether the project can be deployed to, and changes nothing. The error names
// every API that is not enabled, every permission that is missing and the role that Cloud Build
// lacks, each with the gcloud command that adds it. Its code is ErrPermissionDenied, unless a call
// failed without an answer to the question.
func (e *Executor) Preflight(ctx context.Context) error {
	r := request{op: "preflight", job: faas.NoJob}
	var trouble []string
	for _, check := range []func(context.Context, request) ([]finding, error){
		e.checkAPIs, e.checkPermissions, e.checkBuilder, e.checkBucket} {
		found, err := check(ctx, r)
		if err != nil {
			return err
		}
		for _, f := range found {
			trouble = append(trouble, f.what+": "+f.remedy)
		}
	}
	if len(trouble) > 0 {
		return e.errorf(faas.ErrPermissionDenied, r, "project %s cannot be deployed to: %s", e.set.project,
			strings.Join(trouble, "; "))
	}
	return nil
}

// finding is an obstacle, and the command that removes it.
type finding struct{ what, remedy string }

// needs returns the APIs, and the permissions on the project, that the mode requires.
func (e *Executor) needs() (apis, permissions []string) {
	if e.set.mode == modeRun {
		apis = []string{"run.googleapis.com", "storage.googleapis.com"}
		permissions = []string{"run.services.create", "run.services.get", "run.services.list", "run.services.update",
			"run.services.delete", "run.operations.get"}
	} else {
		apis = []string{"cloudfunctions.googleapis.com", "run.googleapis.com", "cloudbuild.googleapis.com",
			"artifactregistry.googleapis.com"}
		permissions = []string{
			"cloudfunctions.functions.create", "cloudfunctions.functions.get", "cloudfunctions.functions.list",
			"cloudfunctions.functions.update",
			"cloudfunctions.functions.delete", "cloudfunctions.functions.sourceCodeSet", "cloudfunctions.operations.get",
			"cloudfunctions.runtimes.list",
		}
	}
	permissions = append(permissions, "iam.serviceAccounts.actAs")
	if len(e.set.members()) > 0 {
		permissions = append(permissions, "run.services.getIamPolicy", "run.services.setIamPolicy")
	}
	if e.set.removeArtifacts && e.set.mode == modeBuild {
		permissions = append(permissions, "artifactregistry.packages.delete")
	}
	if !e.set.public && !e.set.noCredentials {
		permissions = append(permissions, "run.routes.invoke")
	}
	return apis, permissions
}

func (e *Executor) checkAPIs(ctx context.Context, r request) ([]finding, error) {
	apis, _ := e.needs()
	project := "projects/" + e.set.project
	names := make([]string, len(apis))
	for i, api := range apis {
		names[i] = project + "/services/" + api
	}
	var got *serviceusage.BatchGetServicesResponse
	_, err := e.call(ctx, r, true, func(ctx context.Context) (err error) {
		got, err = e.usage.BatchGet(project).Names(names...).Context(ctx).Do()
		return err
	})
	if err != nil {
		return nil, err
	}
	enabled := map[string]bool{}
	for _, s := range got.Services {
		enabled[lastSegment(s.Name)] = s.State == "ENABLED"
	}
	var trouble []finding
	for _, api := range apis {
		if !enabled[api] {
			trouble = append(trouble, finding{"API " + api + " is not enabled", e.enableCommand(api)})
		}
	}
	return trouble, nil
}

// checkPermissions asks for the project as a whole. A permission that is held only on a single
// resource of the project counts as missing.
func (e *Executor) checkPermissions(ctx context.Context, r request) ([]finding, error) {
	_, permissions := e.needs()
	var got *cloudresourcemanager.TestIamPermissionsResponse
	_, err := e.call(ctx, r, true, func(ctx context.Context) (err error) {
		in := &cloudresourcemanager.TestIamPermissionsRequest{Permissions: permissions}
		got, err = e.projects.TestIamPermissions(e.set.project, in).Context(ctx).Do()
		return err
	})
	if err != nil {
		return nil, err
	}
	return e.missing(permissions, got.Permissions), nil
}

// missing describes the permissions that are not held, by the role that includes them.
func (e *Executor) missing(wanted, held []string) []finding {
	byRole := map[string][]string{}
	var order []string
	for _, permission := range wanted {
		if slices.Contains(held, permission) {
			continue
		}
		role := roleFor(permission)
		if byRole[role] == nil {
			order = append(order, role)
		}
		byRole[role] = append(byRole[role], permission)
	}
	var trouble []finding
	for _, role := range order {
		trouble = append(trouble, finding{"permission " + strings.Join(byRole[role], ", ") + " is missing",
			e.grantCommand(role)})
	}
	return trouble
}

// checkBuilder checks whether the account that Cloud Build runs as may build. If the caller may not
// read that, it finds nothing.
func (e *Executor) checkBuilder(ctx context.Context, r request) ([]finding, error) {
	if e.set.mode != modeBuild {
		return nil, nil
	}
	account := e.set.buildServiceAccount
	if account == "" {
		_, err := e.call(ctx, r, true, func(ctx context.Context) error {
			got, err := e.build.GetDefaultServiceAccount(e.set.parent() + "/defaultServiceAccount").Context(ctx).Do()
			if err == nil {
				account = lastSegment(got.ServiceAccountEmail)
			}
			return err
		})
		if err != nil {
			return nil, unlessDenied(err)
		}
		if account == "" || strings.HasSuffix(account, "@cloudbuild.gserviceaccount.com") {
			return nil, nil // Cloud Build's own account may build
		}
	}
	var p *cloudresourcemanager.Policy
	_, err := e.call(ctx, r, true, func(ctx context.Context) (err error) {
		p, err = e.projects.GetIamPolicy(e.set.project, &cloudresourcemanager.GetIamPolicyRequest{}).Context(ctx).Do()
		return err
	})
	if err != nil {
		return nil, unlessDenied(err)
	}
	member := "serviceAccount:" + account
	for _, b := range p.Bindings {
		if slices.Contains([]string{builderRole, "roles/editor", "roles/owner"}, b.Role) &&
			slices.Contains(b.Members, member) {
			return nil, nil
		}
	}
	return []finding{{"Cloud Build's account lacks " + builderRole,
		"gcloud projects add-iam-policy-binding " + e.set.project + " --member=" + member + " --role=" + builderRole}}, nil
}

const builderRole = "roles/cloudbuild.builds.builder"

func unlessDenied(err error) error {
	if code := faas.CodeOf(err); code == faas.ErrPermissionDenied || code == faas.ErrNotFound {
		return nil
	}
	return err
}

// checkBucket checks whether packages can be put into the bucket.
func (e *Executor) checkBucket(ctx context.Context, r request) ([]finding, error) {
	if e.set.mode != modeRun {
		return nil, nil
	}
	wanted := []string{"storage.objects.create", "storage.objects.get", "storage.objects.list", "storage.objects.delete"}
	var got *storage.TestIamPermissionsResponse
	_, err := e.call(ctx, r, true, func(ctx context.Context) (err error) {
		got, err = e.storage.Buckets.TestIamPermissions(e.set.bucket, wanted).Context(ctx).Do()
		return err
	})
	if faas.CodeOf(err) == faas.ErrNotFound {
		return []finding{{"bucket " + e.set.bucket + " does not exist",
			"gcloud storage buckets create gs://" + e.set.bucket + " --project=" + e.set.project + " --location=" +
				e.set.region}}, nil
	}
	if err != nil {
		return nil, err
	}
	return e.missing(wanted, got.Permissions), nil
}
