"""The kinds of logs, a file each; `olivine.logs.opening` finds out which one a path is."""
