// Package azure is the provider for Azure Functions on the plan Flex Consumption. Importing it
// registers the name [faas.AzureFunctions].
//
// All jobs of a service are one unit: one function app with one package, which holds the job binary
// as a custom handler and a function for each job. So 20 jobs need one upload, and a change of one
// job replaces the whole app. The app has one instance size, environment, number of instances and
// concurrency. If the functions of a unit differ, the app gets the largest memory and the union of
// the environments, and [Executor.Units] refuses what cannot be combined. A wanted concurrency
// becomes a number of instances. The plan takes no limit below 40 instances, so the number is a
// demand rather than a cap.
//
// # What is created
//
// A resource group, a storage account with a container for the package, a plan of SKU FC1 and the
// function app. Their names are derived from subscription, region and service, and all have tags
// that name the service. Options can name existing ones instead, which are then used and never
// removed. The app reaches its storage with its own managed identity if the caller may assign it
// the role, and otherwise with a connection string (option "storage_auth").
//
// # Restoring
//
// Azure keeps no former package. Before an update of code publishes another one, it reads the app's
// package from the storage account into a temporary file, and [Executor.Restore] publishes it
// again. If the last deployment could not read its own package, [faas.State.NotRestorable] says so.
//
// # Limits
//
// The plan sells instances of 512, 2048 and 4096 MiB. Azure's front end closes a connection after
// 230 seconds without an answer, so jobs with a longer timeout are refused. Both limits are lower
// than those of [faas.ProviderLimits] for Azure Functions in general. A request has at most 100
// MiB. If the app's tags say that its binary takes arguments as they are, as a binary does that
// links this version of faas/job, that is 100 MiB of arguments; otherwise, as JSON, a quarter to a
// half of it.
//
// # Credentials and clouds
//
// Credentials are found as azidentity.DefaultAzureCredential finds them, or given with
// [WithCredential]. AZURE_AUTHORITY_HOST chooses another authority, and
// AZURE_RESOURCE_MANAGER_ENDPOINT another Resource Manager. So do the options "authority_host" and
// "resource_manager_endpoint", which [faas.Resolve] fills in from these variables; [WithCloud] sets
// both. All other hosts are read from the resources.
//
// # The clients
//
// Resource Manager, publish endpoints and Application Insights are called through azcore, with its
// policies for retries, tokens, registration and telemetry, and its pollers. The generated client
// of App Service would take more than a gigabyte of memory and three times as long to compile as
// this package with all else that it links, for two dozen calls; internal/armcheck compares these
// with that client's models. Packages are read back through azblob, which adds 4 seconds of
// processor time to a first build and 2 MB to a program, but has signatures and interrupted
// downloads right.
//
// This package decides what to wait for, and how long: azcore ends a wait with the first read that
// fails, and the wait for a role or a replica may take longer than any of its retries.
//
// A program that imports this package through faas/all and is built with -tags faas_only leaves it
// out, unless the tag faas_azure is given too. Opening the provider is then a [faas.ErrNotLinked]
// that says so.
package azure
