package lambdatest

import (
	"slices"
	"strings"
	"time"
)

// checkRole refuses a role that Lambda cannot use, or cannot use yet. The caller holds s.mu.
func (s *Server) checkRole(arn string, c configuration) *apiError {
	parts := strings.Split(arn, ":")
	cannot := invalid("The role defined for the function cannot be assumed by Lambda.")
	r := s.roleOf(arn)
	switch {
	case slices.Contains(s.config.UnknownRoles, arn):
		return cannot
	case len(parts) != 6 || !strings.HasPrefix(arn, "arn:aws:iam::") || !strings.HasPrefix(parts[5], "role/"):
		return failf(400, "ValidationException",
			"1 validation error detected: Value '%s' at 'role' failed to satisfy constraint: Member must satisfy regular "+
				"expression pattern: arn:(aws[a-zA-Z-]*)?:iam::\\d{12}:role/?[a-zA-Z_0-9+=,.@\\-_/]+", arn)
	case parts[4] != s.config.Account:
		return failf(403, "AccessDeniedException", "Cross-account pass role is not allowed.")
	case r == nil:
		return nil
	case !strings.Contains(r.trust, "lambda.amazonaws.com") || r.age() < s.config.RoleDelay:
		return cannot
	case c.VpcConfig != nil && len(c.VpcConfig.SubnetIds) > 0 && (!r.allows("ec2:CreateNetworkInterface") ||
		r.age() < s.config.RoleDelay+s.config.RoleGrant):
		return invalid("The provided execution role does not have permissions to call CreateNetworkInterface on EC2")
	case c.Environment != nil && r.age() < s.config.RoleDelay+s.config.RoleGrant:
		return invalid("Lambda was unable to configure access to your environment variables because the KMS key is invalid "+
			"for CreateGrant. Please check your KMS key settings. KMS Exception: InvalidArnException KMS Message: ARN does "+
			"not refer to a valid principal: %s", arn)
	}
	return nil
}

// tooYoung reports whether a function with that role is accepted and fails later. The caller holds
// s.mu.
func (s *Server) tooYoung(arn string) bool {
	r := s.roleOf(arn)
	return r != nil && s.config.RoleLate > 0 && r.age() < s.config.RoleDelay+s.config.RoleGrant+s.config.RoleLate
}

// age returns how long ago a role was created. A role that an operator made is old.
func (r *role) age() time.Duration { return time.Since(r.created) }

// allows reports whether a policy of a role names an action.
func (r *role) allows(action string) bool {
	for _, text := range r.policies {
		if strings.Contains(text, `"`+action+`"`) {
			return true
		}
	}
	return len(r.attached) > 0 // what those say is not known here
}

// roleID returns the identity of a role that was created here, or "". The caller holds s.mu.
func (s *Server) roleID(arn string) string {
	if r := s.roleOf(arn); r != nil {
		return r.id
	}
	return ""
}

// checkExecution refuses an invocation of a function whose role was deleted, or deleted and made
// again, so that Lambda's grants are not for it. The caller holds s.mu.
func (s *Server) checkExecution(v *configuration) *apiError {
	if v.roleID == "" {
		return nil
	}
	switch r := s.roleOf(v.Role); {
	case r == nil || !strings.Contains(r.trust, "lambda.amazonaws.com"):
		return failf(403, "AccessDeniedException", "The role defined for the function cannot be assumed by Lambda.")
	case r.id != v.roleID && v.Environment != nil:
		return failf(502, "KMSAccessDeniedException",
			"Lambda was unable to decrypt the environment variables because KMS access was denied. Please check the "+
				"function's KMS key settings. KMS Exception: AccessDeniedException")
	}
	return nil
}
