package gcptest

import (
	"net/http"

	"cloud.google.com/go/functions/apiv2/functionspb"
)

// numbers holds the enumerations of Cloud Functions, by the path of a member in an answer. A "*"
// stands for the items of a list.
var numbers = map[string]map[string]int32{
	"environment":                   functionspb.Environment_value,
	"state":                         functionspb.Function_State_value,
	"stateMessages.*.severity":      functionspb.StateMessage_Severity_value,
	"serviceConfig.ingressSettings": functionspb.ServiceConfig_IngressSettings_value,
	"serviceConfig.vpcConnectorEgressSettings":   functionspb.ServiceConfig_VpcConnectorEgressSettings_value,
	"metadata.operationType":                     functionspb.OperationType_value,
	"metadata.stages.*.name":                     functionspb.Stage_Name_value,
	"metadata.stages.*.state":                    functionspb.Stage_State_value,
	"metadata.stages.*.stateMessages.*.severity": functionspb.StateMessage_Severity_value,
	"runtimes.*.stage":                           functionspb.ListRuntimesResponse_RuntimeStage_value,
	"runtimes.*.environment":                     functionspb.Environment_value,
}

func init() {
	for _, within := range []string{"response.", "functions.*."} {
		for _, path := range []string{"environment", "state", "stateMessages.*.severity", "serviceConfig.ingressSettings",
			"serviceConfig.vpcConnectorEgressSettings"} {
			numbers[within+path] = numbers[path]
		}
	}
}

// answer replies in the form that the caller asks for. Google's clients want enumerations as
// numbers, gcloud as names.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, doc map[string]any) {
	if r.URL.Query().Get("$alt") == "json;enum-encoding=int" && !s.EnumNames {
		doc = clone(doc)
		number(doc, "")
	}
	reply(w, doc)
}

// number replaces names with numbers at a path.
func number(value any, path string) any {
	switch value := value.(type) {
	case map[string]any:
		for key, member := range value {
			value[key] = number(member, join(path, key))
		}
	case []any:
		for i, item := range value {
			value[i] = number(item, join(path, "*"))
		}
	case string:
		if n, ok := numbers[path][value]; ok {
			return n
		}
	}
	return value
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
