//go:build tools

// Package helm names the one command of this module, so that go.mod and go.sum pin it; tests/cluster/programs.py builds it.
package helm

import _ "helm.sh/helm/v3/cmd/helm"
