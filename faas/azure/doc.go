// Package azure is the provider for Azure Functions on the plan Flex Consumption. Importing it registers the name [faas.AzureFunctions].
//
// All jobs of a service are one unit: one function app with one package, which holds the job binary as a custom handler and a function for each
// job. So 20 jobs are one upload, and a change of one job replaces the whole app. Instance size, environment, number of instances and concurrency are those of
// the app; where the functions of a unit differ, the app gets the largest memory and the union of the environments, and [Executor.Units] refuses what
// cannot be united. A wanted concurrency becomes a number of instances, of which the plan has no less than 40 as a limit, so it is rather a demand than a cap.
//
// # What is created
//
// A resource group, a storage account with a container for the package, a plan of SKU FC1 and the function app, all with names derived
// from subscription, region and service, and all tagged with the service. Options name existing ones instead, which are then used and never removed. The app
// reaches its storage by its own managed identity where the caller may assign it the role; with a connection string otherwise (option "storage_auth").
//
// # Putting back
//
// Azure keeps no former package. An update of code therefore reads the one that the app runs from its storage account, into a temporary file, before it publishes
// another one, and [Executor.Restore] publishes it again. [faas.State.NotRestorable] says so if the last deployment could not read its own package.
//
// # Limits
//
// The plan sells instances of 512, 2048 and 4096 MiB. Azure's front end closes a connection after 230 seconds without an answer, so jobs with
// a longer timeout are refused. Both are less than what [faas.ProviderLimits] says of Azure Functions in general. A request has at
// most 100 MiB: as many bytes of arguments if the app's tags say that its binary takes them as they are, which one that links this version of faas/job
// does, and a quarter to a half of it otherwise, as JSON.
//
// # Credentials and clouds
//
// Credentials are found as azidentity.DefaultAzureCredential finds them, or are given with [WithCredential]. AZURE_AUTHORITY_HOST chooses another
// authority, and AZURE_RESOURCE_MANAGER_ENDPOINT another Resource Manager, as do the options "authority_host" and "resource_manager_endpoint", which [faas.Resolve]
// fills in from them; [WithCloud] sets both. All other hosts are read from the resources.
//
// # The clients
//
// Resource Manager, publish endpoints and Application Insights are called through azcore, with its
// policies for retries, tokens, registration and telemetry, and its pollers. The generated client
// of App Service would take more than a gigabyte of memory and three times as long to compile as
// this package with all else that it links, for two dozen calls; internal/armcheck holds those
// against that client's models. Packages are read back through azblob, which adds 4 seconds of
// processor time to a first build and 2 MB to a program, for signatures and interrupted downloads
// that are not ours to write.
//
// What is waited for, and how long, is decided here: azcore ends a wait with the first failed look,
// and the wait for a role or a replica may take longer than any of its retries.
//
// A program that imports this package through faas/all and is built with -tags faas_only leaves it out, unless the tag faas_azure is given too; opening it then
// is a [faas.ErrNotLinked] that says so.
package azure
