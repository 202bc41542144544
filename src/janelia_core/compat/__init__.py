"""Other libraries' calls, answered exactly by this one: the map.

Change an import, and nothing else: each file has the names, arguments, shapes, dtypes and padding of its model, and
says where it differs on purpose. None needs the library that it stands for, and none searches: `janelia_core.ml` does.

faiss           flat indices, with labels of one's own or row numbers: search, range_search; knn
scipy           the k-d tree: query, query_ball_point, query_pairs
torch_cluster   knn, knn_graph, radius, radius_graph, nearest
pytorch3d       knn_points, knn_gather, ball_query
"""
