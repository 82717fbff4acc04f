//go:build tools

// Package tools names the programs and the module data that the cluster tests need, so that go.mod and go.sum pin
// them. Nothing here is compiled as a program of its own: tests/cluster/programs.py builds the two commands.
package tools

import (
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kube-controller-manager"
	_ "sigs.k8s.io/gateway-api/apis/v1"
)
