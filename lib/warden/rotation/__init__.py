"""The authority's commands that change secrets: policy, rotate, wipe (`commands.obey`), and a rotation in two phases (`rotation.Rotation`).

May import `net`, `provisioning`, `session` and `vault`.
"""
