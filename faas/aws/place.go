//go:build !faas_only || faas_aws

package aws

import (
	"cmp"
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// place is the place that an ARN names.
type place struct{ partition, service, region, account string }

// parseARN reads the place from an ARN. For any other text it returns the zero place.
func parseARN(arn string) place {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) < 6 || parts[0] != "arn" {
		return place{}
	}
	return place{parts[1], parts[2], parts[3], parts[4]}
}

// caller returns the ARN of the credentials' owner. It asks once.
func (e *Executor) caller(ctx context.Context) (string, error) {
	return e.identity.Do(ctx, struct{}{}, func(ctx context.Context) (string, error) {
		who, err := e.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
		if err != nil {
			return "", err
		}
		arn, account := aws.ToString(who.Arn), aws.ToString(who.Account)
		if parseARN(arn).account != account { // not so at AWS
			arn = "arn:" + cmp.Or(parseARN(arn).partition, "aws") + ":iam::" + account + ":unknown"
		}
		return arn, nil
	})
}

// placeTime is the longest wait for the account.
const placeTime = 5 * time.Second

// CheckPlace reports whether this executor reaches the place of a recorded function. With the
// credentials of another account, or in another region, the function would seem to be gone: that is
// an [faas.ErrConflict], which names both places and the remedy. If the place cannot be determined,
// CheckPlace returns nil.
func (e *Executor) CheckPlace(ctx context.Context, recorded faas.State) error {
	there := parseARN(recorded.Resource)
	if there.service != "lambda" {
		return nil
	}
	conflict := func(format string, args ...any) error {
		err := faas.Errorf(faas.ErrConflict, "check place", faas.AWSLambda, format, args...)
		err.JobID = e.jobOf(recorded.ID)
		return err
	}
	if there.region != e.region {
		return conflict("function %s was deployed in region %s, and the configuration names %s: open the service in %s",
			recorded.ID, there.region, e.region, there.region)
	}
	if !e.sameAccounts() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, placeTime)
	defer cancel()
	who, err := e.caller(ctx)
	if err != nil {
		e.logger.warn("cannot determine the account of the credentials", "error", err)
		return nil
	}
	if here := parseARN(who); here.partition != there.partition || here.account != there.account {
		return conflict("function %s was deployed in account %s (%s), and the credentials are of account %s (%s): "+
			`use credentials of account %s, for example with AWS_PROFILE or the option "profile"`,
			recorded.ID, there.account, there.partition, here.account, here.partition, there.account)
	}
	return nil
}

// sameAccounts reports whether the configured STS knows Lambda's accounts. An emulator of Lambda
// has its own.
func (e *Executor) sameAccounts() bool {
	at := e.lambda.Options().BaseEndpoint
	if at == nil || e.sts.Options().BaseEndpoint != nil {
		return true
	}
	u, err := url.Parse(*at)
	return err == nil && strings.Contains(u.Hostname(), ".amazonaws.com")
}
