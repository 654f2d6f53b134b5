// Package apitest holds the public packages to what api/ says of them, and to being documented. There is nothing in it but tests.
package apitest
