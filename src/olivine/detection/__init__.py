"""Detection: boxes of objects in LiDAR sweeps. SECOND (Yan et al., Sensors 2018), part by part."""
