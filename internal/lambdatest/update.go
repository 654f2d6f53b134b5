package lambdatest

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
)

// configure applies the settings of a request.
func (c *configuration) configure(in input) *apiError {
	set(&c.Role, in.Role)
	set(&c.Runtime, in.Runtime)
	set(&c.Handler, in.Handler)
	set(&c.Description, in.Description)
	set(&c.KMSKeyArn, in.KMSKeyArn)
	set(&c.Timeout, in.Timeout)
	set(&c.MemorySize, in.MemorySize)
	switch {
	case c.MemorySize < 128 || c.MemorySize > 10240:
		return invalid("'MemorySize' value failed to satisfy constraint: Member must have value less than or equal to 10240")
	case c.Timeout < 1 || c.Timeout > 900:
		return invalid("'timeout' failed to satisfy constraint: Member must have value less than or equal to 900")
	}
	if in.Environment != nil {
		if err := checkEnvironment(in.Environment.Variables); err != nil {
			return err
		}
		c.Environment = nil
		if len(in.Environment.Variables) > 0 {
			c.Environment = in.Environment
		}
	}
	if in.EphemeralStorage != nil {
		c.EphemeralStorage.Size = in.EphemeralStorage.Size
	}
	if in.TracingConfig != nil {
		c.TracingConfig.Mode = in.TracingConfig.Mode
	}
	if in.LoggingConfig != nil {
		c.LoggingConfig.LogFormat = in.LoggingConfig.LogFormat
	}
	if in.VpcConfig != nil {
		c.VpcConfig = in.VpcConfig
		if len(in.VpcConfig.SubnetIds) > 0 {
			c.VpcConfig.VpcId = "vpc-0"
		}
	}
	if in.Layers != nil {
		c.Layers = nil
		if len(*in.Layers) > 5 {
			return invalid("Layers consume more than the available size: at most 5 layers may be given")
		}
		for _, arn := range *in.Layers {
			c.Layers = append(c.Layers, layer{arn, 1})
		}
	}
	return nil
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

var variablePattern = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_]+$`)

func checkEnvironment(env map[string]string) *apiError {
	reserved := []string{
		"_HANDLER", "_X_AMZN_TRACE_ID", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_EXECUTION_ENV", "AWS_LAMBDA_FUNCTION_NAME",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
		"AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME",
		"AWS_LAMBDA_LOG_STREAM_NAME", "AWS_ACCESS_KEY",
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT",
		"LAMBDA_RUNTIME_DIR",
	}
	for name := range env {
		if slices.Contains(reserved, name) {
			return invalid("Lambda was unable to configure your environment variables because the environment variables you "+
				"have provided contains reserved keys that are currently not supported for modification. Reserved keys used in "+
				"this request: %s", name)
		}
		if !variablePattern.MatchString(name) {
			return failf(400, "ValidationException",
				"1 validation error detected: Value at 'environment.variables' failed to satisfy constraint: Map keys must "+
					"satisfy constraint: [Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+]")
		}
	}
	if text, _ := json.Marshal(env); len(text) > 4096 {
		return invalid("Lambda was unable to configure your environment variables because the environment variables you "+
			"have provided exceeded the 4KB limit. String measured: %s", text)
	}
	return nil
}

func (s *Server) updateFunctionCode(r request) (answer, *apiError) {
	in, err := parse[input](r)
	if err != nil {
		return answer{}, err
	}
	in.ZipFile = r.zip
	pkg, err := s.unpack(in.packageSource)
	if err != nil {
		return answer{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.changeable(r.name, in.RevisionId)
	if err != nil {
		return answer{}, err
	}
	if err := s.room(pkg.size - f.latest.CodeSize); err != nil {
		return answer{}, err
	}
	if in.Publish {
		return answer{}, failf(501, "NotImplemented", "publishing with an update is not known here")
	}
	if in.DryRun {
		return answer{body: f.latest}, nil
	}
	s.remember(r.name, f)
	changed := f.latest
	changed.setCode(pkg, in.Architectures)
	s.update(f, changed)
	return answer{body: f.latest}, nil
}

// changeable returns a function that is in no transition, and at the given revision if there is
// one.
func (s *Server) changeable(name, revision string) (*function, *apiError) {
	f, err := s.find(name)
	if err != nil {
		return nil, err
	}
	if err := cmpRevision(revision, f.latest.RevisionId); err != nil {
		return nil, err
	}
	return f, f.busy()
}

func cmpRevision(want, has string) *apiError {
	if want != "" && want != has {
		return failf(http.StatusPreconditionFailed, "PreconditionFailedException",
			"The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve "+
				"the latest Revision Id")
	}
	return nil
}

func (s *Server) updateFunctionConfiguration(r request) (answer, *apiError) {
	in, err := parse[input](r)
	if err != nil {
		return answer{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.changeable(r.name, in.RevisionId)
	if err != nil {
		return answer{}, err
	}
	changed := f.latest
	if err := changed.configure(in); err != nil {
		return answer{}, err
	}
	if in.Role != nil || in.VpcConfig != nil || in.Environment != nil {
		if err := s.checkRole(changed.Role, changed); err != nil {
			return answer{}, err
		}
	}
	if in.Role != nil {
		changed.roleID = s.roleID(changed.Role)
	}
	s.remember(r.name, f)
	s.update(f, changed)
	return answer{body: f.latest}, nil
}
