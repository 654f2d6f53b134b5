package awssign

import "strings"

// partitions are the parts of AWS, told apart by what the names of their regions begin with: the domain of their services, and where their IAM is, which is
// one service for all regions. As in the table partitions.json and the endpoint rules of IAM that AWS's SDKs have in common.
var partitions = []struct {
	prefix, name, domain string
	iamRegion, iamHost   string
}{
	{"cn-", "aws-cn", "amazonaws.com.cn", "cn-north-1", "iam.cn-north-1.amazonaws.com.cn"},
	{"us-gov-", "aws-us-gov", "amazonaws.com", "us-gov-west-1", "iam.us-gov.amazonaws.com"},
	{"us-iso-", "aws-iso", "c2s.ic.gov", "us-iso-east-1", "iam.us-iso-east-1.c2s.ic.gov"},
	{"us-isob-", "aws-iso-b", "sc2s.sgov.gov", "us-isob-east-1", "iam.us-isob-east-1.sc2s.sgov.gov"},
	{"eu-isoe-", "aws-iso-e", "cloud.adc-e.uk", "eu-isoe-west-1", "iam.eu-isoe-west-1.cloud.adc-e.uk"},
	{"us-isof-", "aws-iso-f", "csp.hci.ic.gov", "us-isof-south-1", "iam.us-isof-south-1.csp.hci.ic.gov"},
	{"eusc-", "aws-eusc", "amazonaws.eu", "eusc-de-east-1", "iam.eusc-de-east-1.amazonaws.eu"},
	{"", "aws", "amazonaws.com", "us-east-1", "iam.amazonaws.com"},
}

func partitionOf(region string) int {
	for i, p := range partitions {
		if strings.HasPrefix(region, p.prefix) {
			return i
		}
	}
	panic("awssign: unreachable: every name begins with the last prefix")
}

// Partition is the name of the part of AWS that a region is in, as ARNs have it.
func Partition(region string) string { return partitions[partitionOf(region)].name }

// Regional returns a service of the region by the id that the SDK has for it and the name that requests are signed for.
func Regional(id, signing, region string) Service {
	return Service{ID: id, Signing: signing, Region: region, Host: signing + "." + region + "." + partitions[partitionOf(region)].domain}
}

// IAM returns the service that holds the roles of the partition that a region is in.
func IAM(region string) Service {
	p := partitions[partitionOf(region)]
	return Service{ID: "IAM", Signing: "iam", Region: p.iamRegion, Host: p.iamHost}
}

// fipsHost is the host with cryptography validated by FIPS 140. Those of GovCloud are such by themselves, but for S3's.
func fipsHost(to Service) string {
	if strings.HasPrefix(to.Region, "us-gov-") && to.Signing != "s3" {
		return to.Host
	}
	return to.Signing + "-fips" + strings.TrimPrefix(to.Host, to.Signing)
}
