// Package deptest holds the tests of what links what in this module. There is nothing in it to import.
package deptest
