"""What pip-audit's JSON says. Status 1 for a vulnerability; no answer at all is a line."""

import json
import sys

text = sys.stdin.read()
packages = json.loads(text)["dependencies"] if text else []
audited = [package for package in packages if "vulns" in package]  # the others were not found
for package in audited:
    for vuln in package["vulns"]:
        fixed = ", ".join(vuln["fix_versions"]) or "no version"
        print(f"{package['name']} {package['version']}: {vuln['id']}, fixed in {fixed}")
if audited:
    print(f"{len(audited)} of {len(packages)} packages audited")
else:
    print("not audited: the database of vulnerabilities is not reachable from here")
sys.exit(any(package["vulns"] for package in audited))
