package lambdatest

import (
	"encoding/json"
	"net/http"
	"slices"
)

// quota is a quota of Service Quotas.
type quota struct {
	ServiceCode, ServiceName, QuotaArn, QuotaCode, QuotaName string
	Value                                                    float64
	Unit                                                     string
	Adjustable, GlobalQuota                                  bool
}

func (s *Server) lambdaQuotas() []quota {
	var all []quota
	for _, q := range []quota{
		{QuotaCode: "L-B99A9384", QuotaName: "Concurrent executions", Value: float64(s.config.Concurrency), Unit: "None",
			Adjustable: true},
		{QuotaCode: "L-2ACBD22F", QuotaName: "Function and layer storage", Value: maxCode >> 30, Unit: "Gigabytes",
			Adjustable: true},
		{QuotaCode: "L-75F48B05", QuotaName: "Deployment package size (direct upload)", Value: maxDirect >> 20,
			Unit: "Megabytes"},
	} {
		q.ServiceCode, q.ServiceName = "lambda", "AWS Lambda"
		q.QuotaArn = "arn:aws:servicequotas:" + s.config.Region + ":" + s.config.Account + ":lambda/" + q.QuotaCode
		all = append(all, q)
	}
	return all
}

// serveQuotas answers a call of Service Quotas.
func (s *Server) serveQuotas(w http.ResponseWriter, operation string, body []byte) {
	var in struct{ ServiceCode, QuotaCode string }
	if err := json.Unmarshal(body, &in); err != nil {
		failf(400, "SerializationException", "%v", err).write(w, "servicequotas")
		return
	}
	all := s.lambdaQuotas()
	known := in.ServiceCode == "lambda"
	i := slices.IndexFunc(all, func(q quota) bool { return q.QuotaCode == in.QuotaCode })
	switch {
	case known && operation == "ListServiceQuotas":
		writeJSON(w, map[string]any{"Quotas": all})
	case known && i >= 0 && operation == "GetServiceQuota":
		writeJSON(w, map[string]any{"Quota": all[i]})
	case operation == "ListServiceQuotas", operation == "GetServiceQuota":
		failf(400, "NoSuchResourceException",
			"The request failed because the specified service or quota does not exist.").write(w, "servicequotas")
	default:
		failf(400, "UnknownOperationException", "%s is not known here", operation).write(w, "servicequotas")
	}
}
